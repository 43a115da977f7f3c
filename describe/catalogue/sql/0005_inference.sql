-- Truth at inference: what dynamic scores were read by, and the newest of each.

ALTER TABLE dynamic_scores ADD COLUMN readout VARCHAR DEFAULT 'raw';
ALTER TABLE dynamic_scores ADD COLUMN sources VARCHAR DEFAULT 'one token';
ALTER TABLE dynamic_scores ADD COLUMN n_pairs INTEGER;
ALTER TABLE dynamic_scores ADD COLUMN null_mean DOUBLE;
ALTER TABLE dynamic_scores ADD COLUMN lift DOUBLE;
COMMENT ON COLUMN dynamic_scores.readout IS 'raw: the output times the unembedding, no norm; direct: the direct path to the logits, with the gains of the norms.';
COMMENT ON COLUMN dynamic_scores.sources IS 'one token; or several tokens, attention without context on the last.';
COMMENT ON COLUMN dynamic_scores.n_pairs IS 'Pairs placed in the template: a sample of the relation''s.';
COMMENT ON COLUMN dynamic_scores.null_mean IS 'Exact mean score over all ways to shuffle the targets among the sources.';
COMMENT ON COLUMN dynamic_scores.lift IS 'score minus null_mean.';

ALTER TABLE correlations ADD COLUMN sources VARCHAR DEFAULT 'one token';
ALTER TABLE correlations ADD COLUMN pearson_r_lift DOUBLE;
ALTER TABLE correlations ADD COLUMN spearman_r_lift DOUBLE;
ALTER TABLE correlations ADD COLUMN n_pairs INTEGER;
ALTER TABLE correlations ADD COLUMN max_lift DOUBLE;
COMMENT ON COLUMN correlations.sources IS 'Of the dynamic scores: one token or several tokens. Static scores are always of one-token sources.';
COMMENT ON COLUMN correlations.pearson_r_lift IS 'Pearson''s r of the lifts over shuffled targets.';
COMMENT ON COLUMN correlations.spearman_r_lift IS 'Spearman''s rank correlation of the lifts.';
COMMENT ON COLUMN correlations.n_pairs IS 'Pairs placed in each template.';
COMMENT ON COLUMN correlations.max_lift IS 'Highest static lift of any head.';
COMMENT ON COLUMN correlations.n_templates IS 'Templates; every template x head is a point of the correlation.';
COMMENT ON COLUMN correlations.pearson_r IS 'Pearson''s r of the scores, the default preset against the direct readout, the paper preset against the raw one; NULL where all scores of a side are equal.';
COMMENT ON COLUMN correlations.spearman_r IS 'Spearman''s rank correlation of the same scores.';

CREATE VIEW correlation_current AS
SELECT c.* FROM correlations c
JOIN runs r ON c.run_id = r.run_id AND r.status = 'complete'
QUALIFY dense_rank() OVER (
    -- A quick run must not hide a whole one.
    PARTITION BY c.model, c.relation, c.preset, c.sources ORDER BY c.n_templates DESC, r.started_at DESC, r.run_id DESC
) = 1;

CREATE VIEW dynamic_current AS
WITH sizes AS (
    SELECT run_id, count(DISTINCT template) AS n_texts FROM dynamic_scores GROUP BY run_id
),
newest AS (
    SELECT d.*
    FROM dynamic_scores d
    JOIN runs r ON d.run_id = r.run_id AND r.status = 'complete'
    JOIN sizes z ON d.run_id = z.run_id
    QUALIFY dense_rank() OVER (
        PARTITION BY d.model, d.relation, d.sources, d.readout
        ORDER BY z.n_texts DESC, r.started_at DESC, r.run_id DESC
    ) = 1
)
SELECT
    model, layer, head, 'L' || layer || 'H' || head AS head_id, relation, sources, readout,
    CASE readout WHEN 'raw' THEN 'paper' ELSE 'default' END AS preset,
    context, direction, k,
    avg(score) AS score, avg(null_mean) AS null_mean, avg(lift) AS lift,
    count(*) AS n_templates, any_value(n_pairs) AS n_pairs, run_id
FROM newest
GROUP BY ALL;

CREATE VIEW relation_truth AS
SELECT
    s.model, s.layer, s.head, s.head_id, s.relation, s.category, s.preset, s.direction,
    s.sources, s.targets, s.k, s.score AS static_score, s.lift AS static_lift, s.q_value, s.implements,
    w.score AS score_with_context, w.lift AS lift_with_context,
    o.score AS score_without_context, o.lift AS lift_without_context, o.n_templates, o.n_pairs
FROM relation_current s
JOIN dynamic_current w USING (model, layer, head, relation, preset, direction, k, sources)
JOIN dynamic_current o USING (model, layer, head, relation, preset, direction, k, sources)
WHERE s.targets = 'whole word' AND w.context = 'with' AND o.context = 'without';

COMMENT ON VIEW correlation_current IS 'One row per model, relation, preset, context, direction and kind of source: static against dynamic scores, newest run.';
COMMENT ON VIEW dynamic_current IS 'One row per model, head, relation, preset, context and direction: dynamic scores of the newest run, means over templates.';
COMMENT ON VIEW relation_truth IS 'One row per model, head, relation, preset and direction: the score from the weights beside those in the running model.';

COMMENT ON COLUMN correlation_current.run_id IS 'The run that made the row.';
COMMENT ON COLUMN correlation_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN correlation_current.relation IS 'The predefined relation.';
COMMENT ON COLUMN correlation_current.preset IS 'Settings of the projection that the scores are held against: default (direct readout) or paper (raw).';
COMMENT ON COLUMN correlation_current.context IS 'with: the head attends as it does; without: only to the source.';
COMMENT ON COLUMN correlation_current.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN correlation_current.n_templates IS 'Templates that the source was placed in.';
COMMENT ON COLUMN correlation_current.sources IS 'one token or several tokens.';
COMMENT ON COLUMN correlation_current.n_pairs IS 'Pairs placed in each template.';
COMMENT ON COLUMN correlation_current.pearson_r IS 'Pearson''s r of the scores; NULL where all scores of a side are equal.';
COMMENT ON COLUMN correlation_current.spearman_r IS 'Spearman''s rank correlation of the scores.';
COMMENT ON COLUMN correlation_current.n_heads IS 'Heads compared.';
COMMENT ON COLUMN correlation_current.max_score IS 'Highest static score of any head.';
COMMENT ON COLUMN correlation_current.pearson_r_lift IS 'Pearson''s r of the lifts over shuffled targets.';
COMMENT ON COLUMN correlation_current.spearman_r_lift IS 'Spearman''s rank correlation of the lifts.';
COMMENT ON COLUMN correlation_current.max_lift IS 'Highest static lift of any head.';

COMMENT ON COLUMN dynamic_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN dynamic_current.layer IS 'Layer, from 0.';
COMMENT ON COLUMN dynamic_current.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN dynamic_current.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN dynamic_current.relation IS 'The predefined relation.';
COMMENT ON COLUMN dynamic_current.sources IS 'one token or several tokens.';
COMMENT ON COLUMN dynamic_current.readout IS 'raw: the output times the unembedding; direct: with the gains of the norms.';
COMMENT ON COLUMN dynamic_current.preset IS 'Settings of the projection that the scores are held against: default (direct readout) or paper (raw).';
COMMENT ON COLUMN dynamic_current.context IS 'with: the head attends as it does; without: only to the source.';
COMMENT ON COLUMN dynamic_current.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN dynamic_current.k IS 'How many of the highest targets count.';
COMMENT ON COLUMN dynamic_current.n_templates IS 'Templates that the source was placed in.';
COMMENT ON COLUMN dynamic_current.n_pairs IS 'Pairs placed in each template.';
COMMENT ON COLUMN dynamic_current.run_id IS 'The run that made the row.';
COMMENT ON COLUMN dynamic_current.score IS 'Share of the pairs whose target is among the k highest of the head''s output; mean over templates.';
COMMENT ON COLUMN dynamic_current.null_mean IS 'The same with targets shuffled among the sources.';
COMMENT ON COLUMN dynamic_current.lift IS 'score minus null_mean.';

COMMENT ON COLUMN relation_truth.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN relation_truth.layer IS 'Layer, from 0.';
COMMENT ON COLUMN relation_truth.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN relation_truth.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN relation_truth.relation IS 'The predefined relation.';
COMMENT ON COLUMN relation_truth.category IS 'algorithmic, knowledge, linguistic, translation or custom.';
COMMENT ON COLUMN relation_truth.preset IS 'Settings of the projection that the scores are held against: default (direct readout) or paper (raw).';
COMMENT ON COLUMN relation_truth.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN relation_truth.sources IS 'one token or several tokens.';
COMMENT ON COLUMN relation_truth.targets IS 'whole word: targets of one token.';
COMMENT ON COLUMN relation_truth.k IS 'How many of the highest targets count.';
COMMENT ON COLUMN relation_truth.n_templates IS 'Templates that the source was placed in.';
COMMENT ON COLUMN relation_truth.n_pairs IS 'Pairs placed in each template.';
COMMENT ON COLUMN relation_truth.static_score IS 'Score from the weights.';
COMMENT ON COLUMN relation_truth.static_lift IS 'Its lift over shuffled targets.';
COMMENT ON COLUMN relation_truth.q_value IS 'Its q-value over all heads and relations.';
COMMENT ON COLUMN relation_truth.implements IS 'Whether q < 0.05 and the lift is at least 0.15, from the weights.';
COMMENT ON COLUMN relation_truth.score_with_context IS 'Score of the head''s output as it attends, mean over templates.';
COMMENT ON COLUMN relation_truth.lift_with_context IS 'Its lift over shuffled targets.';
COMMENT ON COLUMN relation_truth.score_without_context IS 'Score of the head''s output with attention on the source alone.';
COMMENT ON COLUMN relation_truth.lift_without_context IS 'Its lift over shuffled targets.';

ALTER TABLE inference_agreements ADD COLUMN ci_low DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN ci_high DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN p_value DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN n_templates INTEGER;
ALTER TABLE inference_agreements ADD COLUMN agreement_with_context DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN ci_low_with_context DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN ci_high_with_context DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN null_mean_with_context DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN lift_with_context DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN p_value_with_context DOUBLE;
ALTER TABLE inference_agreements ADD COLUMN q_value_with_context DOUBLE;
COMMENT ON COLUMN inference_agreements.agreement IS 'Share of the sources for which one of the 5 first mapped targets is among the 25 first of the head''s output (suppress: last), in at least half of the templates, with attention on the source alone.';
COMMENT ON COLUMN inference_agreements.ci_low IS 'Lower end of the 95 % Wilson interval of agreement.';
COMMENT ON COLUMN inference_agreements.ci_high IS 'Upper end of the 95 % Wilson interval of agreement.';
COMMENT ON COLUMN inference_agreements.p_value IS 'P of such an agreement when targets are shuffled among the head''s sources.';
COMMENT ON COLUMN inference_agreements.n_templates IS 'Texts that each source was placed in.';
COMMENT ON COLUMN inference_agreements.agreement_with_context IS 'The same share where the head attends as it does.';
COMMENT ON COLUMN inference_agreements.ci_low_with_context IS 'Lower end of its 95 % Wilson interval.';
COMMENT ON COLUMN inference_agreements.ci_high_with_context IS 'Upper end of its 95 % Wilson interval.';
COMMENT ON COLUMN inference_agreements.null_mean_with_context IS 'The same with targets shuffled among the sources.';
COMMENT ON COLUMN inference_agreements.lift_with_context IS 'agreement_with_context minus its null.';
COMMENT ON COLUMN inference_agreements.p_value_with_context IS 'Its permutation p-value.';
COMMENT ON COLUMN inference_agreements.q_value_with_context IS 'Its p-value after Benjamini-Hochberg over the descriptions of the run.';
COMMENT ON COLUMN inference_agreements.q_value IS 'p_value after Benjamini-Hochberg over the descriptions of the run.';

CREATE VIEW disagreements AS
SELECT
    a.model, a.layer, a.head, 'L' || a.layer || 'H' || a.head AS head_id, a.cluster, a.direction, d.pattern_text AS description,
    a.n_sources, a.agreement, a.null_mean, a.lift, a.q_value, a.agreement_with_context, a.q_value_with_context,
    a.description_id, a.run_id
FROM inference_agreements a
JOIN runs r ON a.run_id = r.run_id AND r.status = 'complete'
JOIN descriptions d ON a.description_id = d.description_id
SEMI JOIN run_latest l ON d.run_id = l.run_id
QUALIFY row_number() OVER (PARTITION BY a.description_id ORDER BY r.started_at DESC, r.run_id DESC) = 1
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
