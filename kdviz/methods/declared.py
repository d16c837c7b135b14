"""Every method of the house, declared with its paper's weights.

The ranking loss is a plug-in on any of them, `<method>+rk`; alone it stands here as "rk".
"""

from kdviz.losses import papers
from kdviz.methods.method import METHODS, Method, Term

DKD_PAIRS = {
    ("vgg13", "vgg8"): {"dkd.beta": 6.0},
    ("wrn_*", "wrn_*"): {"dkd.beta": 6.0},
    ("resnet56", "resnet20"): {"dkd.beta": 2.0},
    ("resnet110", "resnet32"): {"dkd.beta": 2.0},
}

for method in (
    Method("ce", (Term("ce"),), "the labels alone, no teacher"),
    Method("kd", (Term("ce", 0.1), Term("kd", 0.9)), "KL divergence at temperature 4", papers.KD),
    Method("dist", (Term("ce"), Term("dist")), "correlation within samples and within classes", papers.DIST),
    Method("pld", (Term("pld"),), "Plackett-Luce ranking weighted by the teacher, label first", papers.PLD),
    Method("rk", (Term("rank_kendall", 0.9),), "smooth Kendall's tau; meant as a plug-in: kd+rk", papers.RKKD),
):
    METHODS.add(method.name, method)
