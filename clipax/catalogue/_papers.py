"""The papers that the methods come from, each under the key that the whole project uses for it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PAPERS", "Paper"]


@dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
      authors: As they are quoted in a text: all of few, the first of many.
      year: Of publication.
      title: In full.
      arxiv: Identifier, None where there is none.
    """

    authors: str
    year: int
    title: str
    arxiv: str | None = None

    def __str__(self) -> str:
        """Quote the paper as tables do."""
        number = f", arXiv {self.arxiv}" if self.arxiv else ""
        return f"{self.authors} {self.year}{number}"


# The key: first author's family name, year, and a topic where that is not enough.
PAPERS: dict[str, Paper] = {
    "andrew2021": Paper(
        "Andrew et al.",
        2021,
        "Differentially Private Learning with Adaptive Clipping",
        "1905.03871",
    ),
    "brock2021": Paper(
        "Brock et al.",
        2021,
        "High-Performance Large-Scale Image Recognition Without Normalization",
        "2102.06171",
    ),
    "chezhegov2025": Paper(
        "Chezhegov et al.",
        2025,
        "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
        "2406.04443",
    ),
    "cutkosky2020": Paper(
        "Cutkosky & Mehta", 2020, "Momentum Improves Normalized SGD", "2002.03305"
    ),
    "cutkosky2021": Paper(
        "Cutkosky & Mehta",
        2021,
        "High-probability Bounds for Non-Convex Stochastic Optimization with Heavy Tails",
        "2106.14343",
    ),
    "dubey2023": Paper(
        "Dubey, Singh & Chaudhuri",
        2023,
        "AdaNorm: Adaptive Gradient Norm Correction Based Optimizer for CNNs",
        "2210.06364",
    ),
    "elesedy2023": Paper(
        "Elesedy & Hutter",
        2023,
        "U-Clip: On-Average Unbiased Stochastic Gradient Clipping",
        "2302.02971",
    ),
    "gorbunov2020": Paper(
        "Gorbunov, Danilova & Gasnikov",
        2020,
        "Stochastic Optimization with Heavy-Tailed Noise via Accelerated Gradient Clipping",
        "2005.10785",
    ),
    "hill1975": Paper(
        "Hill", 1975, "A Simple General Approach to Inference About the Tail of a Distribution"
    ),
    "huang2025": Paper(
        "Huang et al.",
        2025,
        "SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training",
        "2501.06842",
    ),
    "huang2025_stable": Paper(
        "Huang et al.",
        2025,
        "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam",
        "2502.17055",
    ),
    "huang2026": Paper(
        "Huang et al.", 2026, "GradientStabilizer: Fix the Norm, Not the Gradient", "2502.17055"
    ),
    "islamov2025": Paper(
        "Islamov et al.",
        2025,
        "Double Momentum and Error Feedback for Clipping with Fast Rates and Differential Privacy",
        "2502.11682",
    ),
    "jiang2026": Paper(
        "Jiang, Semenov & Stich",
        2026,
        "Enhancing LLM Training via Spectral Clipping",
        "2603.14315",
    ),
    "khirirat2023": Paper(
        "Khirirat et al.", 2023, "Clip21: Error Feedback for Gradient Clipping", "2305.18929"
    ),
    "kumar2025": Paper(
        "Kumar et al.",
        2025,
        "ZClip: Adaptive Spike Mitigation for LLM Pre-Training",
        "2504.02507",
    ),
    "li2026": Paper(
        "Li, Wu & Chang",
        2026,
        "AGGC: Adaptive Group Gradient Clipping for Stabilizing Large Language Model Training",
        "2601.11864",
    ),
    "mai2021": Paper(
        "Mai & Johansson",
        2021,
        "Stability and Convergence of Stochastic Gradient Clipping: Beyond Lipschitz Continuity "
        "and Smoothness",
        "2102.06489",
    ),
    "marshall2025": Paper(
        "Marshall et al.",
        2025,
        "To Clip or not to Clip: the Dynamics of SGD with Gradient Clipping in High-Dimensions",
        "2406.11733",
    ),
    "merad2024": Paper(
        "Merad & Gaïffas",
        2024,
        "Robust Stochastic Optimization via Gradient Quantile Clipping",
        "2309.17316",
    ),
    "nguyen2023": Paper(
        "Nguyen et al.",
        2023,
        "Improved Convergence in High Probability of Clipped Gradient Methods with Heavy Tailed "
        "Noise",
        "2304.01119",
    ),
    "pethick2025": Paper(
        "Pethick et al.",
        2025,
        "Generalized Gradient Norm Clipping & Non-Euclidean (L0, L1)-Smoothness",
        "2506.01913",
    ),
    "sadiev2023": Paper(
        "Sadiev et al.",
        2023,
        "High-Probability Bounds for Stochastic Optimization and Variational Inequalities: the "
        "Case of Unbounded Variance",
        "2302.00999",
    ),
    "seetharaman2020": Paper(
        "Seetharaman et al.",
        2020,
        "AutoClip: Adaptive Gradient Clipping for Source Separation Networks",
        "2007.14469",
    ),
    "shazeer2018": Paper(
        "Shazeer & Stern",
        2018,
        "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
        "1804.04235",
    ),
    "tucat2025": Paper(
        "Tucat, Mukherjee et al.",
        2025,
        "Regularized Gradient Clipping Provably Trains Wide and Deep Neural Networks",
        "2404.08624",
    ),
    "wang2026": Paper(
        "Wang et al.",
        2026,
        "AdaGC: Enhancing LLM Pretraining Stability via Adaptive Gradient Clipping",
        "2502.11034",
    ),
    "wortsman2023": Paper(
        "Wortsman et al.",
        2023,
        "Stable and low-precision training for large-scale vision-language models",
        "2304.13013",
    ),
    "yao2024": Paper(
        "Yao et al.",
        2024,
        "Zipformer: A Faster and Better Encoder for Automatic Speech Recognition",
        "2310.11230",
    ),
    "yukhimchuk2026": Paper(
        "Yukhimchuk et al.",
        2026,
        "Gradient Clipping Beyond Vector Norms: A Spectral Approach for Matrix-Valued Parameters",
        "2605.11838",
    ),
    "zhang2020": Paper(
        "Zhang, He, Sra & Jadbabaie",
        2020,
        "Why gradient clipping accelerates training: A theoretical justification for adaptivity",
        "1905.11881",
    ),
    "zhang2020_attention": Paper(
        "Zhang et al.", 2020, "Why are Adaptive Methods Good for Attention Models?", "1912.03194"
    ),
    "zhang2020_mixed": Paper(
        "Zhang, Jin, Fang & Wang",
        2020,
        "Improved Analysis of Clipping Algorithms for Non-convex Optimization",
        "2010.02519",
    ),
}
