-- Direct logit attribution by source token, for every description that is checked in the running model.

ALTER TABLE inference_agreements ADD COLUMN attribution DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN attribution_null DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN attribution_p DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN attribution_q DOUBLE;
COMMENT ON COLUMN inference_agreements.attribution IS 'Mean logits that a source, through the attention it gets in the texts, adds to its own mapped targets against the vocabulary''s mean; the norms'' scales frozen.';
COMMENT ON COLUMN inference_agreements.attribution_null IS 'The same on the mapped targets of the description''s other sources.';
COMMENT ON COLUMN inference_agreements.attribution_p IS 'p-value that a source adds more to its own targets (suppress: takes more off them): sign flips over sources.';
COMMENT ON COLUMN inference_agreements.attribution_q IS 'attribution_p after Benjamini-Hochberg over the descriptions of the run.';
