"""Random views of items: how they are drawn, and how images and vectors are changed by them."""
