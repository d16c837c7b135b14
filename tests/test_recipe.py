"""Recipes, schedules and journals: settings that are checked by name, lines that survive a kill."""

import pytest

from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder
from kdviz.train import Recipe, load_recipe, recipes


@pytest.mark.parametrize("name", recipes())
def test_every_bundled_recipe_loads(name):
    assert load_recipe(name).epochs > 0


def test_flags_go_on_top_of_the_file_and_none_changes_nothing(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('about = "x"\nepochs = 3\nlr = 0.5\n[settings]\n"kd.temperature" = 2.0\n')
    recipe = load_recipe(str(path), lr=0.25, batch=None, settings={"kd.weight": 0.5})
    assert (recipe.epochs, recipe.lr, recipe.batch) == (3, 0.25, Recipe().batch)
    assert recipe.settings == {"kd.temperature": 2.0, "kd.weight": 0.5}


def test_published_recipes_say_what_the_papers_say():
    rkkd, pld = load_recipe("rkkd-cifar100"), load_recipe("pld-cifar100")
    assert (rkkd.epochs, rkkd.batch, rkkd.lr, rkkd.weight_decay) == (240, 64, 0.05, 5e-4)
    assert (rkkd.milestones, rkkd.decay, rkkd.holdout) == ((150, 180, 210), 0.1, False)
    assert load_recipe("rkkd-cifar100-mobile").lr == 0.01
    assert (pld.epochs, pld.batch, pld.optimizer, pld.lr, pld.schedule) == (250, 128, "adamw", 1e-3, "cosine")
    assert pld.settings["pld.temperature"] == 4.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than 0"),
        ({"optimiser": "sgd"}, "unknown recipe setting 'optimiser'; did you mean 'optimizer'"),
        ({"schedule": "poly"}, "schedule"),
        ({"milestones": (3, 1)}, "milestones must rise"),
        ({"lr": "fast"}, "lr"),
    ],
)
def test_bad_settings_are_refused_by_name(change, message):
    with pytest.raises(KdvizError, match=message):
        load_recipe("glyphs100", **change)


def test_unknown_and_broken_recipe_files(tmp_path):
    with pytest.raises(KdvizError, match="did you mean 'glyphs100'"):
        load_recipe("glyphs")
    with pytest.raises(KdvizError, match="recipe not found"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(KdvizError, match="not TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_journal_skips_a_torn_line_and_takes_the_last_of_an_epoch(tmp_path):
    run = RunFolder(tmp_path)
    assert run.epochs() == []
    run.log("epoch", epoch=1, loss=3.0)
    with run.journal.open("a") as stream:
        stream.write('{"event": "epoch", "epoch": 2, "lo')
    run.log("epoch", epoch=2, loss=2.0)
    run.log("epoch", epoch=2, loss=1.0)
    assert [(entry["epoch"], entry["loss"]) for entry in run.epochs()] == [(1, 3.0), (2, 1.0)]
