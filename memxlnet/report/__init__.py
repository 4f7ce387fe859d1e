"""A page about a cache: one HTML file with figures, plots and documents, and the plots of `memxlnet stats`."""
