"""Every method that is a sum of pure losses, declared with its paper's weights.

The ranking loss is a plug-in on any method, `<method>+rk`; "rk" alone has no labels in it. It counts ordered pairs, eq.
7 to the letter, which the weights of RKKD's tables go with: weight .9 with pairs = "unordered" is half of that.

Differs from: the original code of DKD, RLD and CTKD counts epochs from 1, here they start at 0 and warm-ups rise within
the epoch. TTM's and WTTM's authors choose power and weight for each pair of nets; weight 1 here is no claim.
"""

from kdviz.losses import papers
from kdviz.methods.ctkd import LearntTemperature
from kdviz.methods.method import METHODS, Method, Term

DKD_PAIRS = {
    ("vgg13", "vgg8"): {"dkd.beta": 6.0},
    ("wrn_*", "wrn_*"): {"dkd.beta": 6.0},
    ("resnet56", "resnet20"): {"dkd.beta": 2.0},
    ("resnet110", "resnet32"): {"dkd.beta": 2.0},
    ("resnet110", "resnet20"): {"dkd.beta": 2.0},
    ("vgg13", "MobileNetV2"): {"dkd.beta": 6.0},
}

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
    Method("lskd", (Term("ce", 0.1), Term("lskd", 9.0)), "KD of z-scored logits.", papers.LSKD),
    Method("normkd", (Term("ce", 0.1), Term("normkd", 0.9)), "KD at each sample's own temperature.", papers.NORMKD),
    Method(
        "dist",
        (Term("ce"), Term("dist", settings={"beta": 2.0, "gamma": 2.0, "temperature": 4.0})),
        "Correlation within samples and within classes, as its authors train on CIFAR-100; ImageNet has temperature 1.",
        papers.DIST,
    ),
    Method("ttm", (Term("ce"), Term("ttm")), "KL divergence with a temperature on the teacher alone.", papers.TTM),
    Method("wttm", (Term("ce"), Term("wttm")), "TTM, weighing most what the teacher is unsure of.", papers.TTM),
    Method("mrkd", (Term("ce"), Term("mrkd")), "Cosines and smooth Kendall's tau of logits, by sample and by class."),
    Method(
        "diff_kendall",
        (Term("ce"), Term("diff_kendall", 0.9)),
        "DiffKendall's smooth tau of the logits as they are (form 2), alone or a plug-in; the weight is RKKD's.",
        papers.DIFF_KENDALL,
    ),
    Method("nkd", (Term("ce"), Term("nkd")), "The label's cross-entropy by the teacher, and the rest.", papers.NKD),
    Method(
        "rld",
        (Term("ce"), Term("rld", warmup=20.0)),
        "The teacher's confidence for the label, and what it ranks below it, 20 warm-up epochs.",
        papers.RLD,
    ),
    Method("pld", (Term("pld"),), "Plackett-Luce ranking weighted by the teacher, label first.", papers.PLD),
    Method("list_mle", (Term("list_mle"),), "Likelihood of the teacher's ranking, label first.", papers.LIST_MLE),
    Method("p_list_mle", (Term("p_list_mle"),), "ListMLE with the head weighing most.", papers.P_LIST_MLE),
    Method(
        "rkd", (Term("ce"), Term("rkd")), "Distances and angles between pooled features.", papers.RKD, kind="relation"
    ),
    Method("at", (Term("ce"), Term("at", 1000.0)), "Where each stage is active.", papers.AT, kind="feature"),
    Method(
        "nst",
        (Term("ce"), Term("nst", 50.0)),
        "Each stage's channels, compared as distributions.",
        papers.NST,
        kind="feature",
    ),
    Method(
        "sp",
        (Term("ce"), Term("sp", 3000.0)),
        "Similarities between samples in the last map.",
        papers.SP,
        kind="relation",
    ),
    Method(
        "pkt",
        (Term("ce"), Term("pkt", 30000.0)),
        "Similarities between samples as probabilities.",
        papers.PKT,
        kind="relation",
    ),
    Method(
        "rk",
        (Term("rank_kendall", 0.9, settings={"pairs": "ordered"}),),
        "Smooth Kendall's tau, a plug-in: kd+rk, dkd+rk.",
        papers.RKKD,
    ),
):
    METHODS.add(method.name, method)
