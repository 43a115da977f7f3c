-- Chat models as drafters and judges: what they said, how it was asked, and what judges are worth.

ALTER TABLE descriptions ADD COLUMN claim_text VARCHAR;
ALTER TABLE descriptions ADD COLUMN reply_status VARCHAR;
COMMENT ON COLUMN descriptions.claim_text IS 'The claim in words alone, without the figures that pattern_text adds: what a judge or an annotator is shown.';
COMMENT ON COLUMN descriptions.reply_status IS 'Of a chat model''s reply: ok, refused, truncated, oversized, empty, not_json, rejected, rate_limited, timeout, transport, budget, pending, unparsed, bad_rows, unoffered or wrong_language; NULL where none was asked.';
-- Earlier rows hold the figures in their sentence.
UPDATE descriptions SET claim_text = regexp_replace(regexp_replace(
    pattern_text, ' \(\d+ of \d+ held-out rows, \d+% by chance\)', '', 'g'), '\. Explains \d+% of its held-out rows\.$', '');

ALTER TABLE llm_calls ADD COLUMN base_url VARCHAR;
ALTER TABLE llm_calls ADD COLUMN answered_by VARCHAR;
ALTER TABLE llm_calls ADD COLUMN about VARCHAR;
ALTER TABLE llm_calls ADD COLUMN attempts INTEGER;
ALTER TABLE llm_calls ADD COLUMN from_cache BOOLEAN;
ALTER TABLE llm_calls ADD COLUMN error VARCHAR;
COMMENT ON COLUMN llm_calls.base_url IS 'The endpoint.';
COMMENT ON COLUMN llm_calls.answered_by IS 'The model that the endpoint says it was.';
COMMENT ON COLUMN llm_calls.about IS 'The head, description or anchor that was asked about.';
COMMENT ON COLUMN llm_calls.attempts IS 'How often the request was sent.';
COMMENT ON COLUMN llm_calls.from_cache IS 'Whether the answer was there already and nothing was sent; its cost was paid by an earlier try or run.';
COMMENT ON COLUMN llm_calls.error IS 'What went wrong, without any key; NULL otherwise.';
COMMENT ON COLUMN llm_calls.status IS 'ok where the model replied, else why it did not; whether the reply was of use stands in the rows that were made from it.';

CREATE TABLE candidates (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    candidate INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    claim_text VARCHAR,
    temperature DOUBLE,
    seed BIGINT,
    validation_auc DOUBLE,
    validation_grader VARCHAR,
    kept BOOLEAN NOT NULL,
    request_digest VARCHAR,
    reply VARCHAR
);
COMMENT ON TABLE candidates IS 'One row per run, head and candidate draft of a chat model; the kept one is the head''s description.';
COMMENT ON COLUMN candidates.run_id IS 'The run that made the row.';
COMMENT ON COLUMN candidates.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN candidates.layer IS 'Layer, from 0.';
COMMENT ON COLUMN candidates.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN candidates.candidate IS 'Number of the candidate; 0 saw every drafting row, the others a part of them in another order.';
COMMENT ON COLUMN candidates.status IS 'described, unclear, or the status of the reply; see descriptions.reply_status.';
COMMENT ON COLUMN candidates.claim_text IS 'What it says; NULL unless described.';
COMMENT ON COLUMN candidates.temperature IS 'Temperature that was asked for.';
COMMENT ON COLUMN candidates.seed IS 'Seed that was asked for.';
COMMENT ON COLUMN candidates.validation_auc IS 'How well its text tells validation rows from foils; rows that neither drafting nor the final figures see. NULL where there was no choice to make.';
COMMENT ON COLUMN candidates.validation_grader IS 'Who graded the candidates.';
COMMENT ON COLUMN candidates.kept IS 'Whether it became the description.';
COMMENT ON COLUMN candidates.request_digest IS 'The request, as in llm_calls.';
COMMENT ON COLUMN candidates.reply IS 'The reply as it came.';

ALTER TABLE ratings ADD COLUMN pattern_present BOOLEAN;
ALTER TABLE ratings ADD COLUMN n_rows INTEGER;
ALTER TABLE ratings ADD COLUMN n_fitting INTEGER;
ALTER TABLE ratings ADD COLUMN shown_claim VARCHAR;
ALTER TABLE ratings ADD COLUMN shown_rows JSON;
ALTER TABLE ratings ADD COLUMN control VARCHAR;
ALTER TABLE ratings ADD COLUMN prompt_digest VARCHAR;
ALTER TABLE ratings ADD COLUMN request_digest VARCHAR;
ALTER TABLE ratings ADD COLUMN reply VARCHAR;
COMMENT ON COLUMN ratings.pattern_present IS 'Whether the rater sees any pattern in at least two thirds of the rows.';
COMMENT ON COLUMN ratings.n_rows IS 'Rows shown; a chat model that drafted saw none of them, but the rules'' claims, also as a hint, were accepted by them.';
COMMENT ON COLUMN ratings.n_fitting IS 'Rows to which the rater says the description applies.';
COMMENT ON COLUMN ratings.shown_claim IS 'The description as it was shown.';
COMMENT ON COLUMN ratings.shown_rows IS 'The rows shown, in order: direction and source token id.';
COMMENT ON COLUMN ratings.control IS 'What kind of control the item was, such as another head''s description; NULL for the description itself.';
COMMENT ON COLUMN ratings.prompt_digest IS 'sha256 of the prompt, or of the guideline; NULL where there was none.';
COMMENT ON COLUMN ratings.request_digest IS 'The request, as in llm_calls; NULL for people.';
COMMENT ON COLUMN ratings.reply IS 'A chat model''s reply as it came.';
COMMENT ON COLUMN ratings.status IS 'rated, or why there is no rating: skipped or withdrawn by a person, or the status of a judge''s reply (see descriptions.reply_status).';

ALTER TABLE detections ADD COLUMN method VARCHAR;
ALTER TABLE detections ADD COLUMN n_rows INTEGER;
ALTER TABLE detections ADD COLUMN n_foils INTEGER;
ALTER TABLE detections ADD COLUMN auc_similar DOUBLE;
ALTER TABLE detections ADD COLUMN auc_random DOUBLE;
ALTER TABLE detections ADD COLUMN auc_permuted DOUBLE;
ALTER TABLE detections ADD COLUMN null_n INTEGER;
ALTER TABLE detections ADD COLUMN items JSON;
ALTER TABLE detections ADD COLUMN null_description_id VARCHAR;
ALTER TABLE detections ADD COLUMN seed BIGINT;
ALTER TABLE detections ADD COLUMN prompt_digest VARCHAR;
COMMENT ON COLUMN detections.grader IS 'Who told rows from foils: a chat model, a sentence encoder (cosine of the description and the row), or rules: the claim''s own operations, executed.';
COMMENT ON COLUMN detections.n IS 'Rows and foils together.';
COMMENT ON COLUMN detections.hits IS 'Rows and foils told rightly, at a likelihood of one half; NULL for graders that only rank.';
COMMENT ON COLUMN detections.balanced_accuracy IS 'Mean of the accuracy on rows and on foils, at a likelihood of one half; NULL for graders that only rank.';
COMMENT ON COLUMN detections.auc IS 'Area under the ROC curve: how often a held-out row of the head is ranked above a foil. One half is chance.';
COMMENT ON COLUMN detections.ci_low IS 'Lower end of the 95 % interval of auc (Newcombe''s method 5).';
COMMENT ON COLUMN detections.ci_high IS 'Upper end of the 95 % interval of auc.';
COMMENT ON COLUMN detections.null_auc IS 'The same area with other heads'' descriptions in place of this one: of one head for a chat model, else the mean over all.';
COMMENT ON COLUMN detections.method IS 'list: all rows in one request; one: a request for each row; operation: the claim is executed; cosine.';
COMMENT ON COLUMN detections.n_rows IS 'Held-out rows of the head.';
COMMENT ON COLUMN detections.n_foils IS 'Foils.';
COMMENT ON COLUMN detections.auc_similar IS 'The area against rows of the heads most like this one.';
COMMENT ON COLUMN detections.auc_random IS 'The area against rows of other heads whose sources are as frequent.';
COMMENT ON COLUMN detections.auc_permuted IS 'The area against the head''s own sources with targets of its other rows; NULL for a claim about targets whatever the source is, of which they are no foils.';
COMMENT ON COLUMN detections.null_n IS 'Other descriptions behind null_auc.';
COMMENT ON COLUMN detections.items IS 'Rows and foils in the order shown: kind, direction, source token id, head it is from, likelihood.';
COMMENT ON COLUMN detections.null_description_id IS 'The other head''s description that a chat model was given for the null.';
COMMENT ON COLUMN detections.seed IS 'Seed of the choice of foils and of the order.';
COMMENT ON COLUMN detections.prompt_digest IS 'sha256 of the prompt; NULL where there was none.';

CREATE TABLE anchor_ratings (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    judge VARCHAR NOT NULL,
    anchor VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    plausibility INTEGER,
    pattern_present BOOLEAN,
    verdict VARCHAR,
    n_fitting INTEGER,
    true_fits INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    anchors_digest VARCHAR NOT NULL,
    prompt_digest VARCHAR NOT NULL,
    request_digest VARCHAR,
    rated_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE anchor_ratings IS 'One row per judging run, judge, written list and description of it: the same items in every run, whose right answers are known.';
COMMENT ON COLUMN anchor_ratings.run_id IS 'The judging run.';
COMMENT ON COLUMN anchor_ratings.model IS 'The model whose heads the run judged.';
COMMENT ON COLUMN anchor_ratings.judge IS 'The judge.';
COMMENT ON COLUMN anchor_ratings.anchor IS 'The written list of mappings.';
COMMENT ON COLUMN anchor_ratings.kind IS 'Its description: right, vague (true, says little), narrow (true of some rows only) or wrong; nothing: the list has no pattern.';
COMMENT ON COLUMN anchor_ratings.plausibility IS 'The rating, 1 to 5; NULL where status says why.';
COMMENT ON COLUMN anchor_ratings.pattern_present IS 'Whether the judge sees a pattern; true for every kind but nothing.';
COMMENT ON COLUMN anchor_ratings.verdict IS 'Whether the description fits: yes, partly or no.';
COMMENT ON COLUMN anchor_ratings.n_fitting IS 'Rows to which the judge says the description applies.';
COMMENT ON COLUMN anchor_ratings.true_fits IS 'Rows on which the list''s operation holds.';
COMMENT ON COLUMN anchor_ratings.status IS 'rated, or the status of the reply.';
COMMENT ON COLUMN anchor_ratings.anchors_digest IS 'sha256 of the anchor set.';
COMMENT ON COLUMN anchor_ratings.prompt_digest IS 'sha256 of the prompt.';
COMMENT ON COLUMN anchor_ratings.request_digest IS 'The request, as in llm_calls.';
COMMENT ON COLUMN anchor_ratings.rated_at IS 'When (UTC).';

CREATE VIEW judge_drift AS
SELECT
    a.judge, a.run_id, r.started_at, a.model, any_value(a.anchors_digest) AS anchors_digest, any_value(a.prompt_digest) AS prompt_digest,
    count(*) AS n, count(*) FILTER (a.status <> 'rated') AS n_failed,
    avg(a.plausibility) FILTER (a.kind = 'right') AS right_mean,
    avg(a.plausibility) FILTER (a.kind = 'narrow') AS narrow_mean,
    avg(a.plausibility) FILTER (a.kind = 'vague') AS vague_mean,
    avg(a.plausibility) FILTER (a.kind = 'wrong') AS wrong_mean,
    avg(a.plausibility) FILTER (a.kind = 'nothing') AS nothing_mean,
    avg(CASE WHEN a.kind = 'right' THEN (a.plausibility >= 4)::INTEGER WHEN a.kind IN ('wrong', 'nothing') THEN (a.plausibility <= 2)::INTEGER END) AS accuracy
FROM anchor_ratings a JOIN runs r ON a.run_id = r.run_id
GROUP BY a.judge, a.run_id, r.started_at, a.model;
COMMENT ON VIEW judge_drift IS 'One row per judge and judging run: its ratings of the fixed anchor set, whose right answers are known. A change from run to run is the judge''s, not the heads''.';
COMMENT ON COLUMN judge_drift.judge IS 'The judge.';
COMMENT ON COLUMN judge_drift.run_id IS 'The judging run.';
COMMENT ON COLUMN judge_drift.started_at IS 'When it began (UTC).';
COMMENT ON COLUMN judge_drift.model IS 'The model whose heads the run judged.';
COMMENT ON COLUMN judge_drift.anchors_digest IS 'sha256 of the anchor set; figures of different sets do not compare.';
COMMENT ON COLUMN judge_drift.prompt_digest IS 'sha256 of the prompt; figures of different prompts do not compare.';
COMMENT ON COLUMN judge_drift.n IS 'Descriptions of anchors that were put to it.';
COMMENT ON COLUMN judge_drift.n_failed IS 'Of these, without a rating.';
COMMENT ON COLUMN judge_drift.right_mean IS 'Mean plausibility of right descriptions, 1 to 5.';
COMMENT ON COLUMN judge_drift.narrow_mean IS 'Of descriptions that are true of some rows only.';
COMMENT ON COLUMN judge_drift.vague_mean IS 'Of descriptions that are true but say little.';
COMMENT ON COLUMN judge_drift.wrong_mean IS 'Of wrong descriptions.';
COMMENT ON COLUMN judge_drift.nothing_mean IS 'Of descriptions of lists without any pattern.';
COMMENT ON COLUMN judge_drift.accuracy IS 'Share of right descriptions rated 4 or 5, and of wrong ones and of lists without a pattern rated 1 or 2.';

CREATE VIEW judge_agreement AS
WITH pairs AS (
    SELECT x.rater AS judge, y.rater AS other, x.plausibility AS a, y.plausibility AS b
    FROM rating_current x JOIN rating_current y
        ON x.description_id = y.description_id AND x.rater < y.rater AND x.is_control = y.is_control
    WHERE x.rater_kind = 'llm' AND y.rater_kind = 'llm' AND NOT x.is_control
        AND x.plausibility IS NOT NULL AND y.plausibility IS NOT NULL
)
SELECT
    judge, other, count(*) AS n,
    avg((a = b)::INTEGER) AS exact,
    avg((abs(a - b) <= 1)::INTEGER) AS within_one,
    avg(a) - avg(b) AS bias,
    -- 1 - observed / expected squared difference, in closed form.
    1 - avg((a - b) ** 2) / nullif(var_pop(a) + var_pop(b) + (avg(a) - avg(b)) ** 2, 0) AS weighted_kappa
FROM pairs
GROUP BY judge, other;
COMMENT ON VIEW judge_agreement IS 'One row per pair of LLM judges: how far their current ratings of the same descriptions agree; controls left out.';
COMMENT ON COLUMN judge_agreement.judge IS 'One judge.';
COMMENT ON COLUMN judge_agreement.other IS 'The other.';
COMMENT ON COLUMN judge_agreement.n IS 'Descriptions that both rated.';
COMMENT ON COLUMN judge_agreement.exact IS 'Share with the same rating.';
COMMENT ON COLUMN judge_agreement.within_one IS 'Share with ratings at most one apart.';
COMMENT ON COLUMN judge_agreement.bias IS 'Mean rating of the first less that of the second.';
COMMENT ON COLUMN judge_agreement.weighted_kappa IS 'Cohen''s kappa with squared weights: 1 for full agreement, 0 for what chance gives; NULL where both are one and the same constant.';

CREATE VIEW detection_current AS
SELECT d.* FROM detections d
JOIN runs r ON d.run_id = r.run_id
-- A failed try hides no figure.
QUALIFY row_number() OVER (
    PARTITION BY d.description_id, d.grader, d.method ORDER BY (d.status = 'ok') DESC, r.started_at DESC, r.run_id DESC
) = 1;
COMMENT ON VIEW detection_current IS 'One row per description, grader and method: the newest detection, a figure before a failure.';
COMMENT ON COLUMN detection_current.description_id IS 'The description that was tested.';
COMMENT ON COLUMN detection_current.run_id IS 'The run that made the row.';
COMMENT ON COLUMN detection_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN detection_current.layer IS 'Layer, from 0.';
COMMENT ON COLUMN detection_current.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN detection_current.grader IS 'Who told rows from foils: a chat model, a sentence encoder (cosine of the description and the row), or rules: the claim''s own operations, executed.';
COMMENT ON COLUMN detection_current.n IS 'Rows and foils together.';
COMMENT ON COLUMN detection_current.hits IS 'Rows and foils told rightly, at a likelihood of one half; NULL for graders that only rank.';
COMMENT ON COLUMN detection_current.balanced_accuracy IS 'Mean of the accuracy on rows and on foils, at a likelihood of one half; NULL for graders that only rank.';
COMMENT ON COLUMN detection_current.auc IS 'Area under the ROC curve: how often a held-out row of the head is ranked above a foil. One half is chance.';
COMMENT ON COLUMN detection_current.ci_low IS 'Lower end of the 95 % interval of auc (Newcombe''s method 5).';
COMMENT ON COLUMN detection_current.ci_high IS 'Upper end of the 95 % interval of auc.';
COMMENT ON COLUMN detection_current.null_auc IS 'The same area with other heads'' descriptions in place of this one: of one head for a chat model, else the mean over all.';
COMMENT ON COLUMN detection_current.status IS 'ok, or why there is no figure.';
COMMENT ON COLUMN detection_current.method IS 'list: all rows in one request; one: a request for each row; operation: the claim is executed; cosine.';
COMMENT ON COLUMN detection_current.n_rows IS 'Held-out rows of the head.';
COMMENT ON COLUMN detection_current.n_foils IS 'Foils.';
COMMENT ON COLUMN detection_current.auc_similar IS 'The area against rows of the heads most like this one.';
COMMENT ON COLUMN detection_current.auc_random IS 'The area against rows of other heads whose sources are as frequent.';
COMMENT ON COLUMN detection_current.auc_permuted IS 'The area against the head''s own sources with targets of its other rows; NULL for a claim about targets whatever the source is, of which they are no foils.';
COMMENT ON COLUMN detection_current.null_n IS 'Other descriptions behind null_auc.';
COMMENT ON COLUMN detection_current.items IS 'Rows and foils in the order shown: kind, direction, source token id, head it is from, likelihood.';
COMMENT ON COLUMN detection_current.null_description_id IS 'The other head''s description that a chat model was given for the null.';
COMMENT ON COLUMN detection_current.seed IS 'Seed of the choice of foils and of the order.';
COMMENT ON COLUMN detection_current.prompt_digest IS 'sha256 of the prompt; NULL where there was none.';

-- As before, with the new columns; a judge's failed try hides no rating, a person's last word stands.
CREATE OR REPLACE VIEW rating_current AS
SELECT *
FROM ratings
QUALIFY row_number() OVER (
    PARTITION BY description_id, rater_kind, rater, is_control
    ORDER BY (rater_kind = 'human' OR status = 'rated') DESC, rated_at DESC, rating_id DESC
) = 1;
COMMENT ON VIEW rating_current IS 'One row per description, rater and control or not: the rater''s last event, withdrawals included; of a judge its last rating.';
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
COMMENT ON COLUMN rating_current.status IS 'rated, or why there is no rating: skipped or withdrawn by a person, or the status of a judge''s reply (see descriptions.reply_status).';
COMMENT ON COLUMN rating_current.is_control IS 'Whether the item was a control, shown with mappings that are not the head''s own.';
COMMENT ON COLUMN rating_current.seconds IS 'How long the rater took, in seconds.';
COMMENT ON COLUMN rating_current.comment IS 'What the rater added.';
COMMENT ON COLUMN rating_current.rated_at IS 'When (UTC).';
COMMENT ON COLUMN rating_current.pattern_present IS 'Whether the rater sees any pattern in at least two thirds of the rows.';
COMMENT ON COLUMN rating_current.n_rows IS 'Rows shown; none of them was seen by the drafter.';
COMMENT ON COLUMN rating_current.n_fitting IS 'Rows to which the rater says the description applies.';
COMMENT ON COLUMN rating_current.shown_claim IS 'The description as it was shown.';
COMMENT ON COLUMN rating_current.shown_rows IS 'The rows shown, in order: direction and source token id.';
COMMENT ON COLUMN rating_current.control IS 'What kind of control the item was, such as another head''s description; NULL for the description itself.';
COMMENT ON COLUMN rating_current.prompt_digest IS 'sha256 of the prompt, or of the guideline; NULL where there was none.';
COMMENT ON COLUMN rating_current.request_digest IS 'The request, as in llm_calls; NULL for people.';
COMMENT ON COLUMN rating_current.reply IS 'A chat model''s reply as it came.';

-- As before, and how well the description tells the head's own rows from foils.
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
own_detection AS (
    SELECT description_id, auc, null_auc, grader
    FROM detection_current
    WHERE auc IS NOT NULL
    -- A chat model first, then the claim executed; an encoder last.
    QUALIFY row_number() OVER (
        PARTITION BY description_id ORDER BY list_position(['list', 'one', 'operation', 'cosine'], method), grader
    ) = 1
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
    t.auc AS detection_auc,
    t.null_auc AS detection_null,
    t.grader AS detection_grader,
    l.preset,
    d.description_id,
    h.run_id,
    s.direction AS top_relation_direction
FROM heads h
JOIN run_latest l ON h.run_id = l.run_id
LEFT JOIN own_description d ON h.run_id = d.run_id AND h.layer = d.layer AND h.head = d.head
LEFT JOIN own_clusters c ON h.run_id = c.run_id AND h.layer = c.layer AND h.head = c.head
LEFT JOIN own_ratings r ON d.description_id = r.description_id
LEFT JOIN own_detection t ON d.description_id = t.description_id
LEFT JOIN own_agreement a ON d.description_id = a.description_id
LEFT JOIN own_relation s ON h.model = s.model AND h.layer = s.layer AND h.head = s.head
LEFT JOIN own_classes k ON h.model = k.model AND h.layer = k.layer AND h.head = k.head;
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
COMMENT ON COLUMN head_catalogue.top_relation_lift IS 'Its lift: the score minus that of shuffled pairs.';
COMMENT ON COLUMN head_catalogue.head_classes IS 'Classes of the literature whose test the head passes; empty if none, NULL if never tested.';
COMMENT ON COLUMN head_catalogue.direction IS 'Direction of the description: promote or suppress.';
COMMENT ON COLUMN head_catalogue.kind IS 'What sort of claim the description is.';
COMMENT ON COLUMN head_catalogue.operation IS 'Name of the executable operation it claims; NULL for free text.';
COMMENT ON COLUMN head_catalogue.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN head_catalogue.description_id IS 'Identity of the description, as in descriptions and ratings.';
COMMENT ON COLUMN head_catalogue.run_id IS 'The run that the row comes from.';
COMMENT ON COLUMN head_catalogue.top_relation_direction IS 'promote: the head writes the relation''s targets; suppress: it lowers them.';
COMMENT ON COLUMN head_catalogue.detection_auc IS 'How often a held-out row of the head is ranked above a foil by the description; one half is chance. Of a chat model where one has graded, else by executing the claim, else of the sentence encoder.';
COMMENT ON COLUMN head_catalogue.detection_null IS 'The same with another head''s description.';
COMMENT ON COLUMN head_catalogue.detection_grader IS 'Who graded.';

CREATE VIEW drafter_quality AS
WITH graded AS (
    SELECT d.run_id, avg(t.auc) AS detection_auc, avg(t.null_auc) AS detection_null, count(t.auc) AS n_detected
    FROM descriptions d JOIN detection_current t ON d.description_id = t.description_id
    WHERE d.cluster IS NULL AND t.method IN ('list', 'one')
    GROUP BY d.run_id
),
rated AS (
    SELECT d.run_id,
        avg(r.plausibility) FILTER (NOT r.is_control) AS plausibility,
        avg(r.plausibility) FILTER (r.is_control) AS plausibility_null,
        avg((r.plausibility >= 4)::INTEGER) FILTER (NOT r.is_control) AS plausible_share,
        count(r.plausibility) FILTER (NOT r.is_control) AS n_rated
    FROM descriptions d JOIN rating_current r ON d.description_id = r.description_id
    WHERE d.cluster IS NULL AND r.rater_kind = 'llm'
    GROUP BY d.run_id
)
SELECT
    r.model, r.drafter, r.run_id, r.started_at, r.preset, coalesce((r.settings -> '$.drafter.hint')::BOOLEAN, false) AS hint,
    r.n_described, r.n_unclear, r.n_failed,
    coalesce((r.null_checks -> '$.shuffled_rows.described')::INTEGER, 0)
        + coalesce((r.null_checks -> '$.foreign_targets.described')::INTEGER, 0) AS n_false_patterns,
    coalesce((r.null_checks -> '$.shuffled_rows.heads')::INTEGER, 0)
        + coalesce((r.null_checks -> '$.foreign_targets.heads')::INTEGER, 0) AS n_null_heads,
    a.plausibility, a.plausibility_null, a.plausible_share, coalesce(a.n_rated, 0) AS n_rated,
    g.detection_auc, g.detection_null, coalesce(g.n_detected, 0) AS n_detected
FROM runs r
LEFT JOIN rated a ON r.run_id = a.run_id
LEFT JOIN graded g ON r.run_id = g.run_id
WHERE r.kind = 'describe' AND r.status = 'complete';
COMMENT ON VIEW drafter_quality IS 'One row per complete describe run: how its drafter fares, each figure beside its null, so that drafters and their settings compare.';
COMMENT ON COLUMN drafter_quality.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN drafter_quality.drafter IS 'Who wrote the descriptions.';
COMMENT ON COLUMN drafter_quality.run_id IS 'The describe run.';
COMMENT ON COLUMN drafter_quality.started_at IS 'When it began (UTC).';
COMMENT ON COLUMN drafter_quality.preset IS 'Named settings of the projection.';
COMMENT ON COLUMN drafter_quality.hint IS 'Whether a chat model was shown what the rules found; their claims had passed on held-out rows, which favours it here.';
COMMENT ON COLUMN drafter_quality.n_described IS 'Heads with a description.';
COMMENT ON COLUMN drafter_quality.n_unclear IS 'Heads in which no clear pattern was found.';
COMMENT ON COLUMN drafter_quality.n_failed IS 'Heads that failed.';
COMMENT ON COLUMN drafter_quality.n_false_patterns IS 'Heads made to have no pattern (shuffled rows, other heads'' targets) in which the drafter claimed one.';
COMMENT ON COLUMN drafter_quality.n_null_heads IS 'Heads made to have no pattern for which an answer came.';
COMMENT ON COLUMN drafter_quality.plausibility IS 'Mean current rating by LLM judges, 1 to 5.';
COMMENT ON COLUMN drafter_quality.plausibility_null IS 'The same on another head''s rows.';
COMMENT ON COLUMN drafter_quality.plausible_share IS 'Share of ratings of 4 or 5.';
COMMENT ON COLUMN drafter_quality.n_rated IS 'Ratings.';
COMMENT ON COLUMN drafter_quality.detection_auc IS 'Mean area of detection by chat models.';
COMMENT ON COLUMN drafter_quality.detection_null IS 'The same with other heads'' descriptions.';
COMMENT ON COLUMN drafter_quality.n_detected IS 'Descriptions with a detection.';

CREATE VIEW llm_costs AS
WITH paid AS (
    -- An answer is paid for once, however many tries and runs used it.
    SELECT * FROM llm_calls WHERE input_tokens IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY request_digest ORDER BY called_at, call_id) = 1
)
SELECT chat_model, base_url, purpose, called_at::DATE AS day, count(*) AS calls, sum(input_tokens)::BIGINT AS input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens, sum(cost_usd) AS cost_usd, count(*) - count(cost_usd) AS n_unpriced
FROM paid GROUP BY ALL;
COMMENT ON VIEW llm_costs IS 'One row per chat model, endpoint, purpose and day: what its answers cost, each counted once. Answers that came too late are not in it.';
COMMENT ON COLUMN llm_costs.chat_model IS 'The chat model.';
COMMENT ON COLUMN llm_costs.base_url IS 'The endpoint.';
COMMENT ON COLUMN llm_costs.purpose IS 'draft, judge or detect.';
COMMENT ON COLUMN llm_costs.day IS 'When they were given (UTC).';
COMMENT ON COLUMN llm_costs.calls IS 'Answers.';
COMMENT ON COLUMN llm_costs.input_tokens IS 'Tokens sent.';
COMMENT ON COLUMN llm_costs.output_tokens IS 'Tokens received.';
COMMENT ON COLUMN llm_costs.cost_usd IS 'US dollars at the prices that were known; NULL where none was.';
COMMENT ON COLUMN llm_costs.n_unpriced IS 'Answers whose price was unknown.';
