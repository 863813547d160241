"""The stages of a chain, one a file: inputs in, artifact folder out."""
