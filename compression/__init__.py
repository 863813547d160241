"""The science of compressing BERT-family encoders: usable alone, from a notebook, without Prefect or MLflow."""
