"""Running statistics of numbers: windows, histograms, moving averages; nothing of trees."""
