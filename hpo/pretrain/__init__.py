"""`hpo pretrain`: the life of a pretraining, from its options to the encoder's file."""
