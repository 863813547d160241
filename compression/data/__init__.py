"""Text tasks: GLUE and a user's own files, checked, split, tokenised and batched by length."""
