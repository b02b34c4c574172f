"""Authors, year and arXiv number of the papers that several methods come from."""

ZHANG = ("Zhang, He, Sra & Jadbabaie 2020", "1905.11881")
CHEZHEGOV = ("Chezhegov et al. 2025", "2406.04443")
TUCAT = ("Tucat, Mukherjee et al. 2025", "2404.08624")
MAI = ("Mai & Johansson 2021", "2102.06489")
MARSHALL = ("Marshall et al. 2025", "2406.11733")
MERAD = ("Merad & Gaiffas 2024", "2309.17316")
NONE = ("building block", None)
MIXED = ("Zhang, Jin, Fang & Wang 2020", "2010.02519")
