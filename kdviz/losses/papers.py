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
FITNET = Paper(
    "romero2015fitnets",
    "{FitNets}: Hints for Thin Deep Nets",
    "Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and Chassang, Antoine and Gatta, Carlo"
    " and Bengio, Yoshua",
    "ICLR",
    2015,
    "1412.6550",
)
AT = Paper(
    "zagoruyko2017paying",
    "Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via Attention"
    " Transfer",
    "Zagoruyko, Sergey and Komodakis, Nikos",
    "ICLR",
    2017,
    "1612.03928",
)
NST = Paper(
    "huang2017like",
    "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
    "Huang, Zehao and Wang, Naiyan",
    "arXiv",
    2017,
    "1707.01219",
)
PKT = Paper(
    "passalis2018learning",
    "Learning Deep Representations with Probabilistic Knowledge Transfer",
    "Passalis, Nikolaos and Tefas, Anastasios",
    "ECCV",
    2018,
    "1803.10837",
)
SP = Paper(
    "tung2019similarity",
    "Similarity-Preserving Knowledge Distillation",
    "Tung, Frederick and Mori, Greg",
    "ICCV",
    2019,
    "1907.09682",
)
VID = Paper(
    "ahn2019variational",
    "Variational Information Distillation for Knowledge Transfer",
    "Ahn, Sungsoo and Hu, Shell Xu and Damianou, Andreas and Lawrence, Neil D. and Dai, Zhenwen",
    "CVPR",
    2019,
    "1904.05835",
)
OFD = Paper(
    "heo2019comprehensive",
    "A Comprehensive Overhaul of Feature Distillation",
    "Heo, Byeongho and Kim, Jeesoo and Yun, Sangdoo and Park, Hyojin and Kwak, Nojun and Choi, Jin Young",
    "ICCV",
    2019,
    "1904.01866",
)
CRD = Paper(
    "tian2020contrastive",
    "Contrastive Representation Distillation",
    "Tian, Yonglong and Krishnan, Dilip and Isola, Phillip",
    "ICLR",
    2020,
    "1910.10699",
)
REVIEWKD = Paper(
    "chen2021distilling",
    "Distilling Knowledge via Knowledge Review",
    "Chen, Pengguang and Liu, Shu and Zhao, Hengshuang and Jia, Jiaya",
    "CVPR",
    2021,
    "2104.09044",
)
FGFI = Paper(
    "wang2019distilling",
    "Distilling Object Detectors with Fine-Grained Feature Imitation",
    "Wang, Tao and Yuan, Li and Zhang, Xiaopeng and Feng, Jiashi",
    "CVPR",
    2019,
    "1906.03609",
)
FASTER_RCNN = Paper(
    "ren2015faster",
    "Faster {R-CNN}: Towards Real-Time Object Detection with Region Proposal Networks",
    "Ren, Shaoqing and He, Kaiming and Girshick, Ross and Sun, Jian",
    "NeurIPS",
    2015,
    "1506.01497",
)
