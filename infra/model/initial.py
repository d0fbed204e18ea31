"""The model before fine-tuning: MiniLM's BERT weights, brought into a compact DistilBERT."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import DistilBertConfig, DistilBertForSequenceClassification

# model.safetensors of sentence-transformers/all-MiniLM-L6-v2 as its authors publish it.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

BERT_TO_DISTILBERT = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def plain_tokenizer(source: Path) -> Tokenizer:
    """Load a tokenizer.json and take out the padding and truncation stored in it."""
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def compact_config(source: Path) -> DistilBertConfig:
    """DistilBERT with the dimensions of the BERT model in `source`, and two labels."""
    bert = json.loads((source / "config.json").read_text())
    return DistilBertConfig.from_dict(
        {
            "vocab_size": bert["vocab_size"],
            "max_position_embeddings": bert["max_position_embeddings"],
            "n_layers": bert["num_hidden_layers"],
            "n_heads": bert["num_attention_heads"],
            "dim": bert["hidden_size"],
            "hidden_dim": bert["intermediate_size"],
            "id2label": {0: "NEGATIVE", 1: "POSITIVE"},
            "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        }
    )


def distilbert_weights(bert: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename BERT's weights to DistilBERT's names.

    DistilBERT has no token types: row 0 of their table, which BERT adds to every token of a single text,
    is added to every row of the position table instead. The pooler has no counterpart.
    """
    embeddings = "distilbert.embeddings"
    token_type_0 = bert["embeddings.token_type_embeddings.weight"][0]
    positions = bert["embeddings.position_embeddings.weight"] + token_type_0
    weights = {
        f"{embeddings}.word_embeddings.weight": bert["embeddings.word_embeddings.weight"],
        f"{embeddings}.position_embeddings.weight": positions,
        f"{embeddings}.LayerNorm.weight": bert["embeddings.LayerNorm.weight"],
        f"{embeddings}.LayerNorm.bias": bert["embeddings.LayerNorm.bias"],
    }
    for name, weight in bert.items():
        if name.startswith("encoder.layer."):
            layer, rest = name.removeprefix("encoder.layer.").split(".", 1)
            module, kind = rest.rsplit(".", 1)
            weights[f"distilbert.transformer.layer.{layer}.{BERT_TO_DISTILBERT[module]}.{kind}"] = weight
    return weights


def initial_model(source: Path) -> DistilBertForSequenceClassification:
    """The compact DistilBERT with MiniLM's weights and a new, random classifier."""
    weights_file = source / "model.safetensors"
    if hashlib.sha256(weights_file.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"{weights_file} is not the published file")
    model = DistilBertForSequenceClassification(compact_config(source))
    weights = distilbert_weights(load_file(weights_file))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    new = {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"}
    if set(missing) != new or unexpected:
        raise ValueError(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    return model
