"""Reports of bundles and evaluations, on pages of edgeai.report."""
