"""Authors, year and arXiv number of the papers that several methods come from."""

ZHANG = ("Zhang, He, Sra & Jadbabaie 2020", "1905.11881")
CHEZHEGOV = ("Chezhegov et al. 2025", "2406.04443")
TUCAT = ("Tucat, Mukherjee et al. 2025", "2404.08624")
MAI = ("Mai & Johansson 2021", "2102.06489")
NONE = ("building block", None)
