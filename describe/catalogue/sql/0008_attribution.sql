-- Direct logit attribution by source token, for every description that is checked in the running model.

ALTER TABLE inference_agreements ADD COLUMN attribution DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN attribution_null DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN attribution_p DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN attribution_q DOUBLE;
COMMENT ON COLUMN inference_agreements.attribution IS 'Mean logits that a source, through the attention it gets in the texts, adds to its own mapped targets against the vocabulary''s mean; the norms'' scales frozen.';
COMMENT ON COLUMN inference_agreements.attribution_null IS 'The same on the mapped targets of the description''s other sources.';
COMMENT ON COLUMN inference_agreements.attribution_p IS 'p-value that a source adds more to its own targets (suppress: takes more off them): sign flips over sources.';
COMMENT ON COLUMN inference_agreements.attribution_q IS 'attribution_p after Benjamini-Hochberg over the descriptions of the run.';

-- As before, but a quick check, of one text, hides no whole one.
CREATE OR REPLACE VIEW disagreements AS
SELECT
    a.model, a.layer, a.head, 'L' || a.layer || 'H' || a.head AS head_id, a.cluster, a.direction, d.pattern_text AS description,
    a.n_sources, a.agreement, a.null_mean, a.lift, a.q_value, a.agreement_with_context, a.q_value_with_context,
    a.description_id, a.run_id
FROM inference_agreements a
JOIN runs r ON a.run_id = r.run_id AND r.status = 'complete'
JOIN descriptions d ON a.description_id = d.description_id
SEMI JOIN run_latest l ON d.run_id = l.run_id
QUALIFY row_number() OVER (PARTITION BY a.description_id ORDER BY a.n_templates DESC, r.started_at DESC, r.run_id DESC) = 1
    AND NOT coalesce(a.q_value < 0.05, false);

COMMENT ON VIEW disagreements IS 'One row per description that the running model does not bear out: its sources do not bring out their own mapped targets more than one another''s (q >= 0.05).';
COMMENT ON COLUMN disagreements.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN disagreements.layer IS 'Layer, from 0.';
COMMENT ON COLUMN disagreements.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN disagreements.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN disagreements.cluster IS 'Cluster that is described; NULL for the head as a whole.';
COMMENT ON COLUMN disagreements.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN disagreements.description IS 'What the description says.';
COMMENT ON COLUMN disagreements.n_sources IS 'Source tokens that were placed in context.';
COMMENT ON COLUMN disagreements.agreement IS 'Share of them that agree, with attention on the source alone.';
COMMENT ON COLUMN disagreements.null_mean IS 'The same with targets shuffled among the sources.';
COMMENT ON COLUMN disagreements.lift IS 'agreement minus null_mean.';
COMMENT ON COLUMN disagreements.q_value IS 'q-value of the agreement over the descriptions of the run.';
COMMENT ON COLUMN disagreements.agreement_with_context IS 'The same share where the head attends as it does.';
COMMENT ON COLUMN disagreements.q_value_with_context IS 'Its q-value.';
COMMENT ON COLUMN disagreements.description_id IS 'The description that was tested.';
COMMENT ON COLUMN disagreements.run_id IS 'The check''s run.';
