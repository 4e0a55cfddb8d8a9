"""What is learned: embeddings, and estimators around them."""
