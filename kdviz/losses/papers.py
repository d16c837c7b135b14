"""The papers that the losses and methods come from."""

from typing import NamedTuple


class Paper(NamedTuple):
    """A citation; `arxiv` is empty where there is no preprint."""

    key: str
    title: str
    authors: str
    venue: str
    year: int
    arxiv: str = ""

    def __str__(self) -> str:
        venue = "" if self.venue == "arXiv" else f"{self.venue} "
        preprint = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.title}. {venue}{self.year}{preprint}"

    @property
    def bibtex(self) -> str:
        r"""The entry for a .bib file.

        >>> print(Paper("doe20x", "On X", "Doe, Jane and Roe, Ray", "ICML", 2020, "2001.00001").bibtex)
        @inproceedings{doe20x,
          title = {On X},
          author = {Doe, Jane and Roe, Ray},
          booktitle = {ICML},
          year = {2020},
          eprint = {2001.00001},
          archivePrefix = {arXiv}
        }
        """
        preprint = self.venue == "arXiv"
        fields = {"title": self.title, "author": self.authors}
        fields |= {} if preprint else {"booktitle": self.venue}
        fields |= {"year": str(self.year)}
        fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"} if self.arxiv else {}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{'misc' if preprint else 'inproceedings'}{{{self.key},\n{lines}\n}}"


KD = Paper(
    "hinton2015distilling",
    "Distilling the Knowledge in a Neural Network",
    "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
    "arXiv",
    2015,
    "1503.02531",
)
RKKD = Paper(
    "guan2025enhancing",
    "Enhancing Logits Distillation with Plug\\&Play Kendall's $\\tau$ Ranking Loss",
    "Guan, Yuchen and Cheng, Runxi and Liu, Kang and Yuan, Chun",
    "ICML",
    2025,
    "2409.17823",
)
PLD = Paper(
    "bassam2025pld",
    "{PLD}: A Choice-Theoretic List-Wise Knowledge Distillation",
    "Bassam, Ejafa and Zhu, Dawei and Bian, Kaigui",
    "NeurIPS",
    2025,
    "2506.12542",
)
LIST_MLE = Paper(
    "xia2008listwise",
    "Listwise Approach to Learning to Rank: Theory and Algorithm",
    "Xia, Fen and Liu, Tie-Yan and Wang, Jue and Zhang, Wensheng and Li, Hang",
    "ICML",
    2008,
)
P_LIST_MLE = Paper(
    "lan2014position",
    "Position-Aware {ListMLE}: A Sequential Learning Process for Ranking",
    "Lan, Yanyan and Zhu, Yadong and Guo, Jiafeng and Niu, Shuzi and Cheng, Xueqi",
    "UAI",
    2014,
)
DIST = Paper(
    "huang2022knowledge",
    "Knowledge Distillation from A Stronger Teacher",
    "Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang",
    "NeurIPS",
    2022,
    "2205.10536",
)
DKD = Paper(
    "zhao2022decoupled",
    "Decoupled Knowledge Distillation",
    "Zhao, Borui and Cui, Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun",
    "CVPR",
    2022,
    "2203.08679",
)
LSKD = Paper(
    "sun2024logit",
    "Logit Standardization in Knowledge Distillation",
    "Sun, Shangquan and Ren, Wenqi and Li, Jingzhi and Wang, Rui and Cao, Xiaochun",
    "CVPR",
    2024,
    "2403.01427",
)
NORMKD = Paper(
    "chi2023normkd",
    "{NormKD}: Normalized Logits for Knowledge Distillation",
    "Chi, Zhihao and Zheng, Tu and Li, Hengjia and Yang, Zheng and Wu, Boxi and Lin, Binbin and Cai, Deng",
    "arXiv",
    2023,
    "2308.00520",
)
CTKD = Paper(
    "li2023curriculum",
    "Curriculum Temperature for Knowledge Distillation",
    "Li, Zheng and Li, Xiang and Yang, Lingfeng and Zhao, Borui and Song, Renjie and Luo, Lei and Li, Jun"
    " and Yang, Jian",
    "AAAI",
    2023,
    "2211.16231",
)
MLKD = Paper("jin2023multi", "Multi-Level Logit Distillation", "Jin, Ying and Wang, Jiaqi and Lin, Dahua", "CVPR", 2023)
RKD = Paper(
    "park2019relational",
    "Relational Knowledge Distillation",
    "Park, Wonpyo and Kim, Dongju and Lu, Yan and Cho, Minsu",
    "CVPR",
    2019,
    "1904.05068",
)
TTM = Paper(
    "zheng2024knowledge",
    "Knowledge Distillation Based on Transformed Teacher Matching",
    "Zheng, Kaixiang and Yang, En-Hui",
    "ICLR",
    2024,
    "2402.11148",
)
DIFF_KENDALL = Paper(
    "zheng2023diffkendall",
    "{DiffKendall}: A Novel Approach for Few-Shot Learning with Differentiable {Kendall}'s Rank Correlation",
    "Zheng, Kaipeng and Zhang, Huishuai and Huang, Weiran",
    "NeurIPS",
    2023,
    "2307.15317",
)
NKD = Paper(
    "yang2023knowledge",
    "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized"
    " Soft Labels",
    "Yang, Zhendong and Zeng, Ailing and Li, Zhe and Zhang, Tianke and Yuan, Chun and Li, Yu",
    "ICCV",
    2023,
    "2303.13005",
)
RLD = Paper(
    "sun2025knowledge",
    "Knowledge Distillation with Refined Logits",
    "Sun, Wujie and Chen, Defang and Lyu, Siwei and Chen, Genlang and Chen, Chun and Wang, Can",
    "ICCV",
    2025,
    "2408.07703",
)
CRLD = Paper(
    "zhang2024cross",
    "Cross-View Consistency Regularisation for Knowledge Distillation",
    "Zhang, Weijia and Liu, Dongnan and Cai, Weidong and Ma, Chao",
    "ACM Multimedia",
    2024,
    "2412.16493",
)
