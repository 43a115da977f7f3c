-- Predefined operations: what a score was made from, and views that ask the usual questions.

ALTER TABLE relations ADD COLUMN sentence VARCHAR;
ALTER TABLE relations ADD COLUMN generated BOOLEAN DEFAULT false;
COMMENT ON COLUMN relations.sentence IS 'What a head with it does: completes "the head ...".';
COMMENT ON COLUMN relations.generated IS 'Whether the pairs are made for each tokenizer; then the digest is of the rule, not of pairs.';

ALTER TABLE relation_pairs ADD COLUMN model VARCHAR;
COMMENT ON COLUMN relation_pairs.model IS 'The model for whose tokenizer the pair was made; NULL for pairs of words that hold for all.';

ALTER TABLE relation_scores ADD COLUMN main BOOLEAN DEFAULT false;
ALTER TABLE relation_scores ADD COLUMN thin BOOLEAN DEFAULT false;
ALTER TABLE relation_scores ADD COLUMN sources VARCHAR DEFAULT 'one token';
ALTER TABLE relation_scores ADD COLUMN targets VARCHAR DEFAULT 'whole word';
COMMENT ON COLUMN relation_scores.main IS 'Whether k is the one at which the relation is read: 10, copying 1; 25 and 3 for vocabularies above 100,000.';
COMMENT ON COLUMN relation_scores.thin IS 'Whether the relation has too few pairs (below 30) to say much.';
COMMENT ON COLUMN relation_scores.sources IS 'one token; or several tokens, read through the state of the last after block 0 (an approximation).';
COMMENT ON COLUMN relation_scores.targets IS 'whole word: targets of one token; first token: longer targets stand for their first token.';
COMMENT ON COLUMN relation_scores.p_value IS 'P of such a score when targets are shuffled: by random re-pairing, or a proven upper bound far in the tail.';
COMMENT ON COLUMN relation_scores.mean_reciprocal_rank IS 'Mean of 1 / rank of the target, ranks from 1; beyond rank 25 a target counts 0.';
COMMENT ON COLUMN relation_scores.null_mean IS 'Exact mean score over all ways to shuffle the targets among the sources.';
COMMENT ON COLUMN relation_scores.q_value IS 'The p-value after Benjamini-Hochberg over all heads and relations of the run, for this direction and k.';

CREATE VIEW relation_current AS
SELECT
    s.model, s.layer, s.head, s.head // (r.n_heads // r.n_kv_heads) AS kv_head,
    'L' || s.layer || 'H' || s.head AS head_id,
    s.relation, p.category, s.preset, s.direction, s.sources, s.targets, s.k, s.score, s.null_mean, s.lift,
    s.p_value, s.q_value, s.q_value < 0.05 AND s.lift >= 0.15 AS implements,
    s.within_class, s.identity_score, s.reversed_score, s.ci_low, s.ci_high, s.mean_reciprocal_rank,
    s.n_pairs, s.thin, s.run_id
FROM relation_scores s
JOIN runs r ON s.run_id = r.run_id AND r.status = 'complete'
LEFT JOIN relations p ON s.relation = p.relation
WHERE s.main
-- A run over other relations hides nothing: the newest run that scored this relation in this way counts.
QUALIFY dense_rank() OVER (
    PARTITION BY s.model, s.relation, s.preset, s.sources, s.targets
    ORDER BY r.started_at DESC, r.run_id DESC
) = 1;

CREATE VIEW relation_heads AS
FROM relation_current WHERE implements AND direction = 'promote';

CREATE VIEW relation_suppressors AS
FROM relation_current WHERE implements AND direction = 'suppress';

CREATE VIEW head_relations AS
SELECT
    model, layer, head, head_id, preset, direction, sources,
    count(*) AS n_relations,
    count(DISTINCT category) AS n_categories,
    list(relation ORDER BY lift DESC, relation) AS relations,
    list(DISTINCT category ORDER BY category) AS categories
FROM relation_current
WHERE implements
GROUP BY ALL;

CREATE VIEW kv_group_sharing AS
WITH has AS (
    SELECT model, preset, direction, sources, targets, relation, layer, head, kv_head, implements FROM relation_current
)
SELECT
    a.model, a.preset, a.direction, a.sources, a.targets,
    avg(b.implements::INTEGER) FILTER (a.kv_head = b.kv_head) AS same_group,
    avg(b.implements::INTEGER) FILTER (a.kv_head <> b.kv_head) AS other_group,
    count(*) FILTER (a.kv_head = b.kv_head) AS n_same_group,
    count(*) FILTER (a.kv_head <> b.kv_head) AS n_other_group
FROM has a
JOIN has b USING (model, preset, direction, sources, targets, relation, layer)
WHERE a.implements AND a.head <> b.head
GROUP BY ALL;

CREATE VIEW relation_by_model AS
SELECT
    model, relation, category, preset, direction, sources, targets, n_pairs,
    count(*) FILTER (implements) AS n_heads,
    max(lift) AS best_lift,
    -- Of heads with the same lift the first in the model, in every column.
    arg_max(head_id, (lift, -layer, -head)) AS best_head,
    arg_max(score, (lift, -layer, -head)) AS best_score,
    arg_max(null_mean, (lift, -layer, -head)) AS best_null,
    arg_max(q_value, (lift, -layer, -head)) AS best_q_value
FROM relation_current
GROUP BY ALL;

CREATE OR REPLACE VIEW head_catalogue AS
WITH own_description AS (
    -- A head may have one draft for each direction: the surer one speaks for it.
    SELECT d.*
    FROM descriptions d SEMI JOIN run_latest l ON d.run_id = l.run_id
    WHERE d.cluster IS NULL
    QUALIFY row_number() OVER (
        PARTITION BY d.run_id, d.layer, d.head
        ORDER BY
            list_position(['described', 'unclear', 'failed', 'pending'], d.status),
            d.q_value NULLS LAST,
            d.heldout_precision - d.heldout_null DESC NULLS LAST,
            d.direction,
            d.description_id
    ) = 1
),
own_clusters AS (
    SELECT c.run_id, c.layer, c.head, count(*) AS n_clusters
    FROM clusters c SEMI JOIN run_latest l ON c.run_id = l.run_id
    WHERE c.cluster >= 0
    GROUP BY ALL
),
own_ratings AS (
    SELECT
        description_id,
        avg(plausibility) FILTER (rater_kind = 'llm') AS plausibility_llm,
        avg(plausibility) FILTER (rater_kind = 'human') AS plausibility_human,
        count(plausibility) AS n_ratings
    FROM rating_current
    WHERE NOT is_control
    GROUP BY description_id
),
own_agreement AS (
    SELECT a.description_id, a.agreement
    FROM inference_agreements a JOIN runs r ON a.run_id = r.run_id
    WHERE r.status = 'complete'
    QUALIFY row_number() OVER (PARTITION BY a.description_id ORDER BY r.started_at DESC, r.run_id DESC) = 1
),
own_relation AS (
    -- Only what passes: a relation that chance explains is none. The default preset speaks first.
    SELECT model, layer, head, relation, direction, score, lift
    FROM relation_current
    WHERE implements
    QUALIFY row_number() OVER (
        PARTITION BY model, layer, head
        ORDER BY preset = 'default' DESC, lift DESC, score DESC, relation, direction, preset
    ) = 1
),
class_run AS (
    SELECT r.model, r.run_id
    FROM runs r SEMI JOIN head_classes c ON r.run_id = c.run_id
    WHERE r.status = 'complete'
    QUALIFY row_number() OVER (PARTITION BY r.model ORDER BY r.started_at DESC, r.run_id DESC) = 1
),
own_classes AS (
    SELECT c.model, c.layer, c.head, coalesce(list(DISTINCT c.class ORDER BY c.class) FILTER (c.passes), []) AS classes
    FROM head_classes c SEMI JOIN class_run n ON c.run_id = n.run_id
    GROUP BY ALL
)
SELECT
    h.model,
    h.layer,
    h.head,
    h.kv_head,
    'L' || h.layer || 'H' || h.head AS head_id,
    h.status,
    CASE WHEN d.status = 'described' THEN d.pattern_text END AS description,
    coalesce(d.drafter, l.drafter) AS drafter,
    coalesce(c.n_clusters, 0) AS n_clusters,
    d.support,
    d.heldout_precision,
    d.heldout_null,
    d.q_value,
    r.plausibility_llm,
    r.plausibility_human,
    coalesce(r.n_ratings, 0) AS n_ratings,
    a.agreement AS agreement_inference,
    s.relation AS top_relation,
    s.score AS top_relation_score,
    s.lift AS top_relation_lift,
    k.classes AS head_classes,
    d.direction,
    d.kind,
    d.operation,
    l.preset,
    d.description_id,
    h.run_id,
    s.direction AS top_relation_direction
FROM heads h
JOIN run_latest l ON h.run_id = l.run_id
LEFT JOIN own_description d ON h.run_id = d.run_id AND h.layer = d.layer AND h.head = d.head
LEFT JOIN own_clusters c ON h.run_id = c.run_id AND h.layer = c.layer AND h.head = c.head
LEFT JOIN own_ratings r ON d.description_id = r.description_id
LEFT JOIN own_agreement a ON d.description_id = a.description_id
LEFT JOIN own_relation s ON h.model = s.model AND h.layer = s.layer AND h.head = s.head
LEFT JOIN own_classes k ON h.model = k.model AND h.layer = k.layer AND h.head = k.head;

COMMENT ON VIEW relation_current IS 'Relation scores at their main k: one row per model, head, relation, preset, direction and kind of pairs, of the newest complete run that scored the relation so.';
COMMENT ON COLUMN relation_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN relation_current.layer IS 'Layer, from 0.';
COMMENT ON COLUMN relation_current.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN relation_current.kv_head IS 'The key-value head whose W_V this head uses.';
COMMENT ON COLUMN relation_current.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN relation_current.relation IS 'The predefined relation.';
COMMENT ON COLUMN relation_current.category IS 'algorithmic, knowledge, linguistic, translation or custom.';
COMMENT ON COLUMN relation_current.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN relation_current.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN relation_current.sources IS 'one token, or several tokens.';
COMMENT ON COLUMN relation_current.targets IS 'whole word, or first token.';
COMMENT ON COLUMN relation_current.k IS 'How many of the first targets count: the relation''s main k.';
COMMENT ON COLUMN relation_current.score IS 'Share of the pairs whose target is among the k first of the source''s row.';
COMMENT ON COLUMN relation_current.null_mean IS 'Exact mean score over all shufflings.';
COMMENT ON COLUMN relation_current.lift IS 'score minus null_mean.';
COMMENT ON COLUMN relation_current.p_value IS 'P of such a score when targets are shuffled, or an upper bound.';
COMMENT ON COLUMN relation_current.q_value IS 'The p-value after Benjamini-Hochberg over the run.';
COMMENT ON COLUMN relation_current.implements IS 'Whether q_value < 0.05 and lift >= 0.15.';
COMMENT ON COLUMN relation_current.within_class IS 'Share of pairs whose target wins among the relation''s own targets.';
COMMENT ON COLUMN relation_current.identity_score IS 'Control: each source as its own target.';
COMMENT ON COLUMN relation_current.reversed_score IS 'Control: source and target exchanged.';
COMMENT ON COLUMN relation_current.ci_low IS 'Lower end of the 95 % Wilson interval of the score.';
COMMENT ON COLUMN relation_current.ci_high IS 'Upper end of it.';
COMMENT ON COLUMN relation_current.mean_reciprocal_rank IS 'Mean of 1 / rank; 0 beyond rank 25.';
COMMENT ON COLUMN relation_current.n_pairs IS 'Pairs that could be tested.';
COMMENT ON COLUMN relation_current.thin IS 'Whether the relation has fewer than 30 pairs.';
COMMENT ON COLUMN relation_current.run_id IS 'The run.';

COMMENT ON VIEW relation_heads IS 'Heads that implement a relation: q_value < 0.05 and lift >= 0.15.';
COMMENT ON COLUMN relation_heads.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN relation_heads.layer IS 'Layer, from 0.';
COMMENT ON COLUMN relation_heads.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN relation_heads.kv_head IS 'The key-value head whose W_V this head uses.';
COMMENT ON COLUMN relation_heads.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN relation_heads.relation IS 'The predefined relation.';
COMMENT ON COLUMN relation_heads.category IS 'algorithmic, knowledge, linguistic, translation or custom.';
COMMENT ON COLUMN relation_heads.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN relation_heads.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN relation_heads.sources IS 'one token, or several tokens.';
COMMENT ON COLUMN relation_heads.targets IS 'whole word, or first token.';
COMMENT ON COLUMN relation_heads.k IS 'How many of the first targets count: the relation''s main k.';
COMMENT ON COLUMN relation_heads.score IS 'Share of the pairs whose target is among the k first of the source''s row.';
COMMENT ON COLUMN relation_heads.null_mean IS 'Exact mean score over all shufflings.';
COMMENT ON COLUMN relation_heads.lift IS 'score minus null_mean.';
COMMENT ON COLUMN relation_heads.p_value IS 'P of such a score when targets are shuffled, or an upper bound.';
COMMENT ON COLUMN relation_heads.q_value IS 'The p-value after Benjamini-Hochberg over the run.';
COMMENT ON COLUMN relation_heads.implements IS 'Whether q_value < 0.05 and lift >= 0.15.';
COMMENT ON COLUMN relation_heads.within_class IS 'Share of pairs whose target wins among the relation''s own targets.';
COMMENT ON COLUMN relation_heads.identity_score IS 'Control: each source as its own target.';
COMMENT ON COLUMN relation_heads.reversed_score IS 'Control: source and target exchanged.';
COMMENT ON COLUMN relation_heads.ci_low IS 'Lower end of the 95 % Wilson interval of the score.';
COMMENT ON COLUMN relation_heads.ci_high IS 'Upper end of it.';
COMMENT ON COLUMN relation_heads.mean_reciprocal_rank IS 'Mean of 1 / rank; 0 beyond rank 25.';
COMMENT ON COLUMN relation_heads.n_pairs IS 'Pairs that could be tested.';
COMMENT ON COLUMN relation_heads.thin IS 'Whether the relation has fewer than 30 pairs.';
COMMENT ON COLUMN relation_heads.run_id IS 'The run.';

COMMENT ON VIEW relation_suppressors IS 'Heads that lower the targets of a relation: q_value < 0.05 and lift >= 0.15 in direction suppress.';
COMMENT ON COLUMN relation_suppressors.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN relation_suppressors.layer IS 'Layer, from 0.';
COMMENT ON COLUMN relation_suppressors.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN relation_suppressors.kv_head IS 'The key-value head whose W_V this head uses.';
COMMENT ON COLUMN relation_suppressors.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN relation_suppressors.relation IS 'The predefined relation.';
COMMENT ON COLUMN relation_suppressors.category IS 'algorithmic, knowledge, linguistic, translation or custom.';
COMMENT ON COLUMN relation_suppressors.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN relation_suppressors.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN relation_suppressors.sources IS 'one token, or several tokens.';
COMMENT ON COLUMN relation_suppressors.targets IS 'whole word, or first token.';
COMMENT ON COLUMN relation_suppressors.k IS 'How many of the first targets count: the relation''s main k.';
COMMENT ON COLUMN relation_suppressors.score IS 'Share of the pairs whose target is among the k first of the source''s row.';
COMMENT ON COLUMN relation_suppressors.null_mean IS 'Exact mean score over all shufflings.';
COMMENT ON COLUMN relation_suppressors.lift IS 'score minus null_mean.';
COMMENT ON COLUMN relation_suppressors.p_value IS 'P of such a score when targets are shuffled, or an upper bound.';
COMMENT ON COLUMN relation_suppressors.q_value IS 'The p-value after Benjamini-Hochberg over the run.';
COMMENT ON COLUMN relation_suppressors.implements IS 'Whether q_value < 0.05 and lift >= 0.15.';
COMMENT ON COLUMN relation_suppressors.within_class IS 'Share of pairs whose target wins among the relation''s own targets.';
COMMENT ON COLUMN relation_suppressors.identity_score IS 'Control: each source as its own target.';
COMMENT ON COLUMN relation_suppressors.reversed_score IS 'Control: source and target exchanged.';
COMMENT ON COLUMN relation_suppressors.ci_low IS 'Lower end of the 95 % Wilson interval of the score.';
COMMENT ON COLUMN relation_suppressors.ci_high IS 'Upper end of it.';
COMMENT ON COLUMN relation_suppressors.mean_reciprocal_rank IS 'Mean of 1 / rank; 0 beyond rank 25.';
COMMENT ON COLUMN relation_suppressors.n_pairs IS 'Pairs that could be tested.';
COMMENT ON COLUMN relation_suppressors.thin IS 'Whether the relation has fewer than 30 pairs.';
COMMENT ON COLUMN relation_suppressors.run_id IS 'The run.';

COMMENT ON VIEW head_relations IS 'One row per head, preset and direction with at least one implemented relation.';
COMMENT ON COLUMN head_relations.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN head_relations.layer IS 'Layer, from 0.';
COMMENT ON COLUMN head_relations.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN head_relations.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN head_relations.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN head_relations.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN head_relations.sources IS 'one token, or several tokens.';
COMMENT ON COLUMN head_relations.n_relations IS 'Relations that it implements.';
COMMENT ON COLUMN head_relations.n_categories IS 'Their categories, counted.';
COMMENT ON COLUMN head_relations.relations IS 'Their names, greatest lift first.';
COMMENT ON COLUMN head_relations.categories IS 'Their categories.';

COMMENT ON VIEW kv_group_sharing IS 'Grouped-query attention: given that a head implements a relation, how often another head of the layer does too.';
COMMENT ON COLUMN kv_group_sharing.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN kv_group_sharing.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN kv_group_sharing.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN kv_group_sharing.sources IS 'one token, or several tokens.';
COMMENT ON COLUMN kv_group_sharing.targets IS 'whole word, or first token.';
COMMENT ON COLUMN kv_group_sharing.same_group IS 'Share among heads with the same key-value head.';
COMMENT ON COLUMN kv_group_sharing.other_group IS 'Share among heads with another key-value head.';
COMMENT ON COLUMN kv_group_sharing.n_same_group IS 'Pairs of heads compared within groups.';
COMMENT ON COLUMN kv_group_sharing.n_other_group IS 'Pairs of heads compared across groups.';

COMMENT ON VIEW relation_by_model IS 'One row per relation and model: how many heads implement it, and the best.';
COMMENT ON COLUMN relation_by_model.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN relation_by_model.relation IS 'The predefined relation.';
COMMENT ON COLUMN relation_by_model.category IS 'algorithmic, knowledge, linguistic, translation or custom.';
COMMENT ON COLUMN relation_by_model.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN relation_by_model.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN relation_by_model.sources IS 'one token, or several tokens.';
COMMENT ON COLUMN relation_by_model.targets IS 'whole word, or first token.';
COMMENT ON COLUMN relation_by_model.n_pairs IS 'Pairs that could be tested.';
COMMENT ON COLUMN relation_by_model.n_heads IS 'Heads that implement it.';
COMMENT ON COLUMN relation_by_model.best_lift IS 'Greatest lift of any head, implemented or not.';
COMMENT ON COLUMN relation_by_model.best_head IS 'That head.';
COMMENT ON COLUMN relation_by_model.best_score IS 'Its score.';
COMMENT ON COLUMN relation_by_model.best_null IS 'Its null mean.';
COMMENT ON COLUMN relation_by_model.best_q_value IS 'Its q-value.';

COMMENT ON VIEW head_catalogue IS 'The front door: one row per model, layer and head, from the model''s newest complete describe run.';
COMMENT ON COLUMN head_catalogue.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN head_catalogue.layer IS 'Layer, from 0.';
COMMENT ON COLUMN head_catalogue.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN head_catalogue.kv_head IS 'The key-value head whose W_V this head uses.';
COMMENT ON COLUMN head_catalogue.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN head_catalogue.status IS 'described, unclear (no clear pattern), failed, or pending.';
COMMENT ON COLUMN head_catalogue.description IS 'What the head does, in a sentence; NULL unless it was described.';
COMMENT ON COLUMN head_catalogue.drafter IS 'Who wrote the description: rules, or a chat model.';
COMMENT ON COLUMN head_catalogue.n_clusters IS 'Clusters of its source tokens, noise left out, both directions together.';
COMMENT ON COLUMN head_catalogue.support IS 'Share of the drafting rows on which the description holds, 0 to 1.';
COMMENT ON COLUMN head_catalogue.heldout_precision IS 'Share of the held-out rows on which it holds, 0 to 1.';
COMMENT ON COLUMN head_catalogue.heldout_null IS 'The same share on shuffled held-out rows.';
COMMENT ON COLUMN head_catalogue.q_value IS 'Permutation p-value of the held-out share after Benjamini-Hochberg over the run.';
COMMENT ON COLUMN head_catalogue.plausibility_llm IS 'Mean current rating by LLM judges, 1 to 5; controls left out.';
COMMENT ON COLUMN head_catalogue.plausibility_human IS 'Mean current rating by people, 1 to 5; controls left out.';
COMMENT ON COLUMN head_catalogue.n_ratings IS 'Current ratings of the description, by people and judges; controls left out.';
COMMENT ON COLUMN head_catalogue.agreement_inference IS 'Share of the source tokens for which the head did at inference what the description says; newest check.';
COMMENT ON COLUMN head_catalogue.top_relation IS 'The predefined relation that the head implements with the greatest lift (q < 0.05, lift at least 0.15); NULL if none passes.';
COMMENT ON COLUMN head_catalogue.top_relation_score IS 'Its score: share of the pairs whose target is among the k highest.';
COMMENT ON COLUMN head_catalogue.top_relation_direction IS 'promote: the head writes the relation''s targets; suppress: it lowers them.';
COMMENT ON COLUMN head_catalogue.top_relation_lift IS 'Its lift: the score minus that of shuffled pairs.';
COMMENT ON COLUMN head_catalogue.head_classes IS 'Classes of the literature whose test the head passes; empty if none, NULL if never tested.';
COMMENT ON COLUMN head_catalogue.direction IS 'Direction of the description: promote or suppress.';
COMMENT ON COLUMN head_catalogue.kind IS 'What sort of claim the description is.';
COMMENT ON COLUMN head_catalogue.operation IS 'Name of the executable operation it claims; NULL for free text.';
COMMENT ON COLUMN head_catalogue.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN head_catalogue.description_id IS 'Identity of the description, as in descriptions and ratings.';
COMMENT ON COLUMN head_catalogue.run_id IS 'The run that the row comes from.';
