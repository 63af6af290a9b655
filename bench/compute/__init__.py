"""What compute costs, beside the bare parts. Imports nothing: servers that others are measured with start from here."""
