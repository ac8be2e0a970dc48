"""Charts and pages of runs, searches and reproductions."""
