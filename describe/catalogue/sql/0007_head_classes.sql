-- The battery of head classes: both legs of every class on every head, the classes' names, and where heads attend.

ALTER TABLE head_classes ADD COLUMN effect_null DOUBLE;
ALTER TABLE head_classes ADD COLUMN pattern_beyond_first DOUBLE;
ALTER TABLE head_classes ADD COLUMN pattern_p DOUBLE;
ALTER TABLE head_classes ADD COLUMN effect_p DOUBLE;
ALTER TABLE head_classes ADD COLUMN pattern_q DOUBLE;
ALTER TABLE head_classes ADD COLUMN effect_q DOUBLE;
ALTER TABLE head_classes ADD COLUMN detail VARCHAR;
COMMENT ON COLUMN head_classes.pattern_score IS 'How well the attention fits the class: attention on what the class attends to, or what class_definitions.pattern says, 0 to 1.';
COMMENT ON COLUMN head_classes.effect_score IS 'What that does: logits on the class''s target by source token, or nats of loss without the head (see class_definitions.effect); NULL for classes tested by removal where the head was no candidate.';
COMMENT ON COLUMN head_classes."null" IS 'The pattern score that chance, or the same text with its structure destroyed, reaches; NULL where the score is held against its threshold instead.';
COMMENT ON COLUMN head_classes.effect_null IS 'The effect on foils, tokens that the class does not raise; where heads are removed, what that costs where the class has nothing to do, or what other heads of the layer cost.';
COMMENT ON COLUMN head_classes.pattern_beyond_first IS 'pattern_score as a share of the attention that is not on the first token; NULL where that is not measured.';
COMMENT ON COLUMN head_classes.pattern_p IS 'p-value of the pattern against its null: sign flips over texts or prompts.';
COMMENT ON COLUMN head_classes.effect_p IS 'p-value of the effect against its null; NULL unless the head passes the pattern leg.';
COMMENT ON COLUMN head_classes.pattern_q IS 'pattern_p after Benjamini-Hochberg over the heads of the model.';
COMMENT ON COLUMN head_classes.effect_q IS 'effect_p after Benjamini-Hochberg over the heads that pass the pattern leg.';
COMMENT ON COLUMN head_classes.q_value IS 'The larger of pattern_q and effect_q; 1 where the effect was not asked for.';
COMMENT ON COLUMN head_classes.passes IS 'Whether both legs pass, with what class_definitions calls the least; NULL where the model fails the class''s task.';
COMMENT ON COLUMN head_classes.detail IS 'The offset of a positional head, the relation of a semantic induction head.';

CREATE TABLE class_definitions (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    class VARCHAR NOT NULL,
    survey_name VARCHAR,
    stage VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,
    pattern VARCHAR,
    effect VARCHAR,
    reference VARCHAR,
    tested BOOLEAN NOT NULL,
    reason VARCHAR,
    suite VARCHAR,
    least_pattern DOUBLE,
    least_effect DOUBLE,
    accuracy DOUBLE,
    chance DOUBLE,
    n_heads INTEGER
);

COMMENT ON TABLE class_definitions IS 'One row per run and class of the literature: what it means, and whether and how it was tested on this model.';
COMMENT ON COLUMN class_definitions.run_id IS 'The run that made the row.';
COMMENT ON COLUMN class_definitions.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN class_definitions.class IS 'The class, as in head_classes.';
COMMENT ON COLUMN class_definitions.survey_name IS 'Its name in the survey of Zheng et al. (arXiv 2409.03752); NULL where the survey has none.';
COMMENT ON COLUMN class_definitions.stage IS 'The survey''s stage, or that it is not in the survey.';
COMMENT ON COLUMN class_definitions.definition IS 'What heads of the class do.';
COMMENT ON COLUMN class_definitions.pattern IS 'Pattern leg: where they attend.';
COMMENT ON COLUMN class_definitions.effect IS 'Effect leg: what that changes.';
COMMENT ON COLUMN class_definitions.reference IS 'Where the class comes from.';
COMMENT ON COLUMN class_definitions.tested IS 'Whether it was tested on this model.';
COMMENT ON COLUMN class_definitions.reason IS 'Why it was not.';
COMMENT ON COLUMN class_definitions.suite IS 'The inputs that it is tested on.';
COMMENT ON COLUMN class_definitions.least_pattern IS 'The least pattern score that counts.';
COMMENT ON COLUMN class_definitions.least_effect IS 'By how much the effect must exceed its null at least; below 0 for classes that suppress.';
COMMENT ON COLUMN class_definitions.accuracy IS 'Share of the suite''s prompts that the model answers; NULL where nothing is asked.';
COMMENT ON COLUMN class_definitions.chance IS 'Share that guessing would answer.';
COMMENT ON COLUMN class_definitions.n_heads IS 'Heads that pass; NULL where it was not tested.';

CREATE TABLE head_attention (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    first DOUBLE,
    itself DOUBLE,
    previous DOUBLE,
    near DOUBLE,
    near_chance DOUBLE,
    distance DOUBLE,
    entropy DOUBLE,
    n_texts INTEGER
);

COMMENT ON TABLE head_attention IS 'One row per run and head: where it attends in natural text and code, means over the texts.';
COMMENT ON COLUMN head_attention.run_id IS 'The run that made the row.';
COMMENT ON COLUMN head_attention.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN head_attention.layer IS 'Layer, from 0.';
COMMENT ON COLUMN head_attention.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN head_attention.first IS 'Attention on the first token, the usual sink.';
COMMENT ON COLUMN head_attention.itself IS 'Attention on the query''s own token.';
COMMENT ON COLUMN head_attention.previous IS 'Attention on the token before.';
COMMENT ON COLUMN head_attention.near IS 'Share of the attention beyond the first token that falls within 8 tokens, the own among them.';
COMMENT ON COLUMN head_attention.near_chance IS 'The same if attention were even.';
COMMENT ON COLUMN head_attention.distance IS 'Mean distance in tokens, the first token aside.';
COMMENT ON COLUMN head_attention.entropy IS 'Entropy of the pattern, in bits.';
COMMENT ON COLUMN head_attention.n_texts IS 'Texts that were read.';

CREATE VIEW class_current AS
WITH newest AS (
    SELECT r.run_id
    FROM runs r SEMI JOIN head_classes c ON r.run_id = c.run_id
    WHERE r.status = 'complete'
    QUALIFY row_number() OVER (PARTITION BY r.model ORDER BY r.started_at DESC, r.run_id DESC) = 1
)
SELECT
    c.model, c.layer, c.head, 'L' || c.layer || 'H' || c.head AS head_id, c.class, d.survey_name, c.passes,
    c.pattern_score, c."null" AS pattern_null, c.effect_score, c.effect_null, c.q_value, c.detail, c.run_id
FROM head_classes c
SEMI JOIN newest n ON c.run_id = n.run_id
LEFT JOIN class_definitions d ON c.run_id = d.run_id AND c.class = d.class;

COMMENT ON VIEW class_current IS 'One row per head and class of the model''s newest complete battery, with both legs beside their nulls.';
COMMENT ON COLUMN class_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN class_current.layer IS 'Layer, from 0.';
COMMENT ON COLUMN class_current.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN class_current.head_id IS 'The head''s short name, such as L5H9.';
COMMENT ON COLUMN class_current.class IS 'The class, as in class_definitions.';
COMMENT ON COLUMN class_current.survey_name IS 'Its name in the survey of Zheng et al.';
COMMENT ON COLUMN class_current.passes IS 'Whether the head passes both legs; NULL where the model fails the class''s task.';
COMMENT ON COLUMN class_current.pattern_score IS 'How well the attention fits the class.';
COMMENT ON COLUMN class_current.pattern_null IS 'The pattern score that chance reaches; NULL where the score is held against its threshold instead.';
COMMENT ON COLUMN class_current.effect_score IS 'What that does to the output: logits, or nats of loss without the head.';
COMMENT ON COLUMN class_current.effect_null IS 'The effect on foils; where heads are removed, the loss where the class has nothing to do, or of other heads.';
COMMENT ON COLUMN class_current.q_value IS 'The larger q-value of the two legs.';
COMMENT ON COLUMN class_current.detail IS 'The offset of a positional head, the relation of a semantic induction head.';
COMMENT ON COLUMN class_current.run_id IS 'The battery''s run.';

CREATE VIEW class_members AS
SELECT
    model, class, any_value(survey_name) AS survey_name, count(*) FILTER (passes) AS n_heads,
    coalesce(list(head_id ORDER BY abs(effect_score) DESC) FILTER (passes), []) AS heads
FROM class_current
GROUP BY model, class
HAVING count(passes) > 0;

COMMENT ON VIEW class_members IS 'One row per model and class that was tested: the heads that pass, strongest effect first. Why others were not: class_definitions.';
COMMENT ON COLUMN class_members.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN class_members.class IS 'The class, as in class_definitions.';
COMMENT ON COLUMN class_members.survey_name IS 'Its name in the survey of Zheng et al.';
COMMENT ON COLUMN class_members.n_heads IS 'How many heads pass.';
COMMENT ON COLUMN class_members.heads IS 'Their short names.';
