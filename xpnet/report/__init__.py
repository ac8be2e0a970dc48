"""Charts and pages: what runs, searches and reproductions look like."""
