"""Other libraries on the same problems, each written as it serves that library best."""
