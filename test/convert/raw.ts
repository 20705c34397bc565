/** config.json of the Llama that conversions are tried on: two layers, four heads of four over two of keys and values. */
export const raw = {
  model_type: 'llama',
  hidden_size: 16,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 20,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
};
