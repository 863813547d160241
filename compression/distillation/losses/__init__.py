"""Distillation losses, one a file.

Losses over word pieces leave padding out of keys, queries and means. All compute in fp32 whatever they are given, and
let no gradient reach the teacher.

| loss | compares | paper |
|---|---|---|
| `soft_cross_entropy` | class distributions at a temperature | Hinton et al. 2015; TinyBERT eq. 10 |
| `soft_binary_cross_entropy` | probabilities of labels of which several may hold | |
| `span_soft_cross_entropy` | distributions of where an answer starts and ends | DistilBERT 4.1 |
| `kl_divergence` | vocabulary distributions of selected word pieces | DistilBERT |
| `mean_squared_error` | outputs of a regression | |
| `masked_language_model` | masked word pieces with what stood there | BERT, DistilBERT |
| `hidden_cosine` | directions of hidden states | DistilBERT |
| `hidden_mean_squared_error` | hidden states, through a learned projection | TinyBERT eq. 8 |
| `embedding_mean_squared_error` | embeddings, through a learned projection | TinyBERT eq. 9 |
| `attention_score_mean_squared_error` | attention before the softmax | TinyBERT eq. 7 |
| `attention_distribution_divergence` | attention after the softmax | MiniLM 3.1 |
| `value_relation_divergence` | products of value vectors | MiniLM 3.2 |
| `patient_cls` | normalised [CLS] states of several layers | PKD 3.2 |
| `relational_distance`, `relational_angle` | pairs and triples of examples | RKD 3.2 |
"""
