-- The front door and its helpers.

CREATE VIEW run_latest AS
SELECT model, run_id, preset, drafter, started_at
FROM runs
WHERE kind = 'describe' AND status = 'complete'
-- A later run over some heads only must not hide a whole one.
QUALIFY row_number() OVER (
    PARTITION BY model ORDER BY (selection IS NULL) DESC, started_at DESC, run_id DESC
) = 1;

CREATE VIEW rating_current AS
SELECT *
FROM ratings
QUALIFY row_number() OVER (
    PARTITION BY description_id, rater_kind, rater, is_control ORDER BY rated_at DESC, rating_id DESC
) = 1;

CREATE VIEW head_catalogue AS
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
relation_run AS (
    SELECT r.model, r.run_id
    FROM runs r SEMI JOIN relation_scores s ON r.run_id = s.run_id
    WHERE r.status = 'complete'
    QUALIFY row_number() OVER (PARTITION BY r.model ORDER BY r.started_at DESC, r.run_id DESC) = 1
),
own_relation AS (
    SELECT s.model, s.layer, s.head, s.relation, s.score, s.lift
    FROM relation_scores s SEMI JOIN relation_run n ON s.run_id = n.run_id
    WHERE s.score IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY s.model, s.layer, s.head
        ORDER BY s.lift DESC NULLS LAST, s.score DESC, s.k, s.relation, s.direction, s.preset
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
    h.run_id
FROM heads h
JOIN run_latest l ON h.run_id = l.run_id
LEFT JOIN own_description d ON h.run_id = d.run_id AND h.layer = d.layer AND h.head = d.head
LEFT JOIN own_clusters c ON h.run_id = c.run_id AND h.layer = c.layer AND h.head = c.head
LEFT JOIN own_ratings r ON d.description_id = r.description_id
LEFT JOIN own_agreement a ON d.description_id = a.description_id
LEFT JOIN own_relation s ON h.model = s.model AND h.layer = s.layer AND h.head = s.head
LEFT JOIN own_classes k ON h.model = k.model AND h.layer = k.layer AND h.head = k.head;

COMMENT ON VIEW run_latest IS 'One row per model: its newest complete describe run.';
COMMENT ON COLUMN run_latest.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN run_latest.run_id IS 'The run.';
COMMENT ON COLUMN run_latest.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN run_latest.drafter IS 'Who wrote its descriptions.';
COMMENT ON COLUMN run_latest.started_at IS 'When it began (UTC).';

COMMENT ON VIEW rating_current IS 'One row per description, rater and control or not: the rater''s last event, withdrawals included.';
COMMENT ON COLUMN rating_current.rating_id IS 'Identity of the event.';
COMMENT ON COLUMN rating_current.run_id IS 'The judging run; NULL for people.';
COMMENT ON COLUMN rating_current.description_id IS 'The description that was rated.';
COMMENT ON COLUMN rating_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN rating_current.layer IS 'Layer, from 0.';
COMMENT ON COLUMN rating_current.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN rating_current.rater_kind IS 'human or llm.';
COMMENT ON COLUMN rating_current.rater IS 'Who rated: a person''s name, or a chat model.';
COMMENT ON COLUMN rating_current.plausibility IS 'How well the description fits the mappings, 1 to 5; NULL where status says why.';
COMMENT ON COLUMN rating_current.verdict IS 'The rater''s verdict in a word; NULL where none was asked for.';
COMMENT ON COLUMN rating_current.status IS 'rated, or why there is no rating: skipped, withdrawn, failed.';
COMMENT ON COLUMN rating_current.is_control IS 'Whether the item was a control, shown with mappings that are not the head''s own.';
COMMENT ON COLUMN rating_current.seconds IS 'How long the rater took, in seconds.';
COMMENT ON COLUMN rating_current.comment IS 'What the rater added.';
COMMENT ON COLUMN rating_current.rated_at IS 'When (UTC).';

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
COMMENT ON COLUMN head_catalogue.top_relation IS 'The predefined relation with the greatest lift for this head; newest complete run that scored relations.';
COMMENT ON COLUMN head_catalogue.top_relation_score IS 'Its score: share of the pairs whose target is among the k highest.';
COMMENT ON COLUMN head_catalogue.top_relation_lift IS 'Its lift: the score minus that of shuffled pairs.';
COMMENT ON COLUMN head_catalogue.head_classes IS 'Classes of the literature whose test the head passes; empty if none, NULL if never tested.';
COMMENT ON COLUMN head_catalogue.direction IS 'Direction of the description: promote or suppress.';
COMMENT ON COLUMN head_catalogue.kind IS 'What sort of claim the description is.';
COMMENT ON COLUMN head_catalogue.operation IS 'Name of the executable operation it claims; NULL for free text.';
COMMENT ON COLUMN head_catalogue.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN head_catalogue.description_id IS 'Identity of the description, as in descriptions and ratings.';
COMMENT ON COLUMN head_catalogue.run_id IS 'The run that the row comes from.';
