"""Studies: mixtures x seeds -> a table of scores -> which mixture is better, by how much, and how sure that is."""
