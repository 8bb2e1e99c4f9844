"""Studies of claims about contrastive learning; `python -m studies` lists them."""
