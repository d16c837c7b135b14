"""Every method of the house, declared with its paper's weights.

The ranking loss is a plug-in on any of them, `<method>+rk`; "rk" alone has no labels in it.

Differs from: the original code of DKD and CTKD counts epochs from 1, here they start at 0 and warm-ups rise within the
epoch. MLKD's public code multiplies its plain-view terms by a mask after they are averaged (about one half), takes the
plain view for two of the five strong-view temperatures and leaves the strong view's Gram terms out; here every term is
on both views and unmasked.
"""

from kdviz.losses import papers
from kdviz.methods.ctkd import LearntTemperature
from kdviz.methods.method import METHODS, Method, Term

DKD_PAIRS = {
    ("vgg13", "vgg8"): {"dkd.beta": 6.0},
    ("wrn_*", "wrn_*"): {"dkd.beta": 6.0},
    ("resnet56", "resnet20"): {"dkd.beta": 2.0},
    ("resnet110", "resnet32"): {"dkd.beta": 2.0},
}
LEVELS = {"temperature": (2.0, 3.0, 4.0, 5.0, 6.0)}
MLKD = (
    Term("ce", 0.1, strong=True),
    *(Term(name, 0.9, settings=LEVELS, strong=True) for name in ("kd", "class_gram", "batch_gram")),
)

for method in (
    Method("ce", (Term("ce"),), "The labels alone, no teacher."),
    Method("kd", (Term("ce", 0.1), Term("kd", 0.9)), "KL divergence at temperature 4.", papers.KD),
    Method(
        "ctkd",
        (Term("ce", 0.1), Term("ctkd", 0.9, build=LearntTemperature)),
        "KD at a temperature learnt against the student.",
        papers.CTKD,
    ),
    Method(
        "dkd",
        (Term("ce"), Term("dkd", warmup=20.0)),
        "KD split into the target class and the rest, 20 warm-up epochs.",
        papers.DKD,
        DKD_PAIRS,
    ),
    Method("mlkd", MLKD, "KD and Gram matrices at five temperatures, plain and strong view.", papers.MLKD),
    Method("lskd", (Term("ce", 0.1), Term("lskd", 9.0)), "KD of z-scored logits.", papers.LSKD),
    Method("normkd", (Term("ce", 0.1), Term("normkd", 0.9)), "KD at each sample's own temperature.", papers.NORMKD),
    Method("dist", (Term("ce"), Term("dist")), "Correlation within samples and within classes.", papers.DIST),
    Method("pld", (Term("pld"),), "Plackett-Luce ranking weighted by the teacher, label first.", papers.PLD),
    Method("list_mle", (Term("list_mle"),), "Likelihood of the teacher's ranking, label first.", papers.LIST_MLE),
    Method("p_list_mle", (Term("p_list_mle"),), "ListMLE with the head weighing most.", papers.P_LIST_MLE),
    Method(
        "rkd", (Term("ce"), Term("rkd")), "Distances and angles between pooled features.", papers.RKD, kind="relation"
    ),
    Method("rk", (Term("rank_kendall", 0.9),), "Smooth Kendall's tau, a plug-in: kd+rk, dkd+rk.", papers.RKKD),
):
    METHODS.add(method.name, method)
