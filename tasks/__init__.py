"""Cached stages: the cache key, the artifact store and MLflow logging, once for every stage."""
