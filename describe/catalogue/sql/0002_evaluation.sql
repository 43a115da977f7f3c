-- Whether the descriptions are true and plausible: ratings, detection, relations, inference.

CREATE TABLE ratings (
    rating_id VARCHAR NOT NULL,
    run_id VARCHAR,
    description_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    rater_kind VARCHAR NOT NULL CHECK (rater_kind IN ('human', 'llm')),
    rater VARCHAR NOT NULL,
    plausibility INTEGER CHECK (plausibility BETWEEN 1 AND 5),
    verdict VARCHAR,
    status VARCHAR NOT NULL,
    is_control BOOLEAN NOT NULL DEFAULT false,
    seconds DOUBLE,
    comment VARCHAR,
    rated_at TIMESTAMP NOT NULL
);

COMMENT ON TABLE ratings IS 'One row per rating event, never changed afterwards; rating_current holds each rater''s last.';
COMMENT ON COLUMN ratings.rating_id IS 'Identity of the event.';
COMMENT ON COLUMN ratings.run_id IS 'The judging run; NULL for people.';
COMMENT ON COLUMN ratings.description_id IS 'The description that was rated.';
COMMENT ON COLUMN ratings.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN ratings.layer IS 'Layer, from 0.';
COMMENT ON COLUMN ratings.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN ratings.rater_kind IS 'human or llm.';
COMMENT ON COLUMN ratings.rater IS 'Who rated: a person''s name, or a chat model.';
COMMENT ON COLUMN ratings.plausibility IS 'How well the description fits the mappings, 1 to 5; NULL where status says why.';
COMMENT ON COLUMN ratings.verdict IS 'The rater''s verdict in a word; NULL where none was asked for.';
COMMENT ON COLUMN ratings.status IS 'rated, or why there is no rating: skipped, withdrawn, failed.';
COMMENT ON COLUMN ratings.is_control IS 'Whether the item was a control, shown with mappings that are not the head''s own.';
COMMENT ON COLUMN ratings.seconds IS 'How long the rater took, in seconds.';
COMMENT ON COLUMN ratings.comment IS 'What the rater added.';
COMMENT ON COLUMN ratings.rated_at IS 'When (UTC).';

CREATE TABLE detections (
    description_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    grader VARCHAR NOT NULL,
    n INTEGER NOT NULL,
    hits INTEGER,
    balanced_accuracy DOUBLE,
    auc DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    null_auc DOUBLE,
    status VARCHAR NOT NULL
);

COMMENT ON TABLE detections IS 'One row per description and grader: can the grader tell held-out rows from foils by the description?';
COMMENT ON COLUMN detections.description_id IS 'The description that was tested.';
COMMENT ON COLUMN detections.run_id IS 'The run that made the row.';
COMMENT ON COLUMN detections.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN detections.layer IS 'Layer, from 0.';
COMMENT ON COLUMN detections.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN detections.grader IS 'Who chose between row and foil.';
COMMENT ON COLUMN detections.n IS 'Number of choices.';
COMMENT ON COLUMN detections.hits IS 'Right choices.';
COMMENT ON COLUMN detections.balanced_accuracy IS 'Mean of the accuracy on rows and on foils.';
COMMENT ON COLUMN detections.auc IS 'Area under the ROC curve.';
COMMENT ON COLUMN detections.ci_low IS 'Lower end of the 95 % interval of auc.';
COMMENT ON COLUMN detections.ci_high IS 'Upper end of the 95 % interval of auc.';
COMMENT ON COLUMN detections.null_auc IS 'The same area with descriptions shuffled among heads.';
COMMENT ON COLUMN detections.status IS 'ok, or why there is no figure.';

CREATE TABLE relations (
    relation VARCHAR PRIMARY KEY,
    category VARCHAR NOT NULL,
    description VARCHAR,
    source VARCHAR,
    licence VARCHAR,
    digest VARCHAR
);

COMMENT ON TABLE relations IS 'One row per predefined operation.';
COMMENT ON COLUMN relations.relation IS 'Name, such as country_to_capital.';
COMMENT ON COLUMN relations.category IS 'algorithmic, knowledge, linguistic, translation or custom.';
COMMENT ON COLUMN relations.description IS 'What it is, in a sentence.';
COMMENT ON COLUMN relations.source IS 'Where the pairs come from.';
COMMENT ON COLUMN relations.licence IS 'Licence of the pairs.';
COMMENT ON COLUMN relations.digest IS 'sha256 of the pairs.';

CREATE TABLE relation_pairs (
    relation VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    target VARCHAR NOT NULL
);

COMMENT ON TABLE relation_pairs IS 'One row per pair of a relation.';
COMMENT ON COLUMN relation_pairs.relation IS 'The relation.';
COMMENT ON COLUMN relation_pairs.source IS 'What is read.';
COMMENT ON COLUMN relation_pairs.target IS 'What should be written.';

CREATE TABLE relation_scores (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    relation VARCHAR NOT NULL,
    preset VARCHAR NOT NULL,
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    k INTEGER NOT NULL,
    score DOUBLE,
    n_pairs INTEGER NOT NULL,
    null_mean DOUBLE,
    lift DOUBLE,
    p_value DOUBLE,
    q_value DOUBLE,
    within_class DOUBLE,
    identity_score DOUBLE,
    reversed_score DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    mean_reciprocal_rank DOUBLE
);

COMMENT ON TABLE relation_scores IS 'One row per run, head, relation, preset, direction and k: how well the head performs the relation in vocabulary space.';
COMMENT ON COLUMN relation_scores.run_id IS 'The run that made the row.';
COMMENT ON COLUMN relation_scores.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN relation_scores.layer IS 'Layer, from 0.';
COMMENT ON COLUMN relation_scores.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN relation_scores.relation IS 'The relation.';
COMMENT ON COLUMN relation_scores.preset IS 'Named settings of the projection: default, paper or custom.';
COMMENT ON COLUMN relation_scores.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN relation_scores.k IS 'How many of the highest targets count.';
COMMENT ON COLUMN relation_scores.score IS 'Share of the pairs whose target is among the k highest (suppress: lowest) of the source''s row.';
COMMENT ON COLUMN relation_scores.n_pairs IS 'Pairs that could be tested: both words are one token.';
COMMENT ON COLUMN relation_scores.null_mean IS 'Mean score with the targets shuffled among the sources.';
COMMENT ON COLUMN relation_scores.lift IS 'score minus null_mean.';
COMMENT ON COLUMN relation_scores.p_value IS 'Permutation p-value of the score.';
COMMENT ON COLUMN relation_scores.q_value IS 'The p-value after Benjamini-Hochberg over all heads and relations of the model.';
COMMENT ON COLUMN relation_scores.within_class IS 'Share of the pairs whose target is the highest among the relation''s own targets, class mean removed.';
COMMENT ON COLUMN relation_scores.identity_score IS 'Control: the score with each source as its own target.';
COMMENT ON COLUMN relation_scores.reversed_score IS 'Control: the score with source and target exchanged.';
COMMENT ON COLUMN relation_scores.ci_low IS 'Lower end of the 95 % Wilson interval of the score.';
COMMENT ON COLUMN relation_scores.ci_high IS 'Upper end of the 95 % Wilson interval of the score.';
COMMENT ON COLUMN relation_scores.mean_reciprocal_rank IS 'Mean of 1 / rank of the target, ranks from 1.';

CREATE TABLE dynamic_scores (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    relation VARCHAR NOT NULL,
    template VARCHAR NOT NULL,
    context VARCHAR NOT NULL CHECK (context IN ('with', 'without')),
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    k INTEGER NOT NULL,
    score DOUBLE
);

COMMENT ON TABLE dynamic_scores IS 'One row per run, head, relation, template and context: the relation score of the head''s output at inference.';
COMMENT ON COLUMN dynamic_scores.run_id IS 'The run that made the row.';
COMMENT ON COLUMN dynamic_scores.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN dynamic_scores.layer IS 'Layer, from 0.';
COMMENT ON COLUMN dynamic_scores.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN dynamic_scores.relation IS 'The relation.';
COMMENT ON COLUMN dynamic_scores.template IS 'The text that the source was placed in.';
COMMENT ON COLUMN dynamic_scores.context IS 'with: the head attends as it does; without: only to the source.';
COMMENT ON COLUMN dynamic_scores.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN dynamic_scores.k IS 'How many of the highest targets count.';
COMMENT ON COLUMN dynamic_scores.score IS 'Share of the pairs whose target is among the k highest.';

CREATE TABLE correlations (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    relation VARCHAR NOT NULL,
    preset VARCHAR NOT NULL,
    context VARCHAR NOT NULL CHECK (context IN ('with', 'without')),
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    pearson_r DOUBLE,
    spearman_r DOUBLE,
    n_heads INTEGER NOT NULL,
    n_templates INTEGER NOT NULL,
    max_score DOUBLE
);

COMMENT ON TABLE correlations IS 'One row per run, relation, preset, context and direction: static against dynamic scores over the heads of the model.';
COMMENT ON COLUMN correlations.run_id IS 'The run that made the row.';
COMMENT ON COLUMN correlations.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN correlations.relation IS 'The relation.';
COMMENT ON COLUMN correlations.preset IS 'Named settings of the projection: default, paper or custom.';
COMMENT ON COLUMN correlations.context IS 'with or without context; see dynamic_scores.';
COMMENT ON COLUMN correlations.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN correlations.pearson_r IS 'Pearson''s r.';
COMMENT ON COLUMN correlations.spearman_r IS 'Spearman''s rank correlation.';
COMMENT ON COLUMN correlations.n_heads IS 'Heads compared.';
COMMENT ON COLUMN correlations.n_templates IS 'Templates averaged.';
COMMENT ON COLUMN correlations.max_score IS 'Highest static score of any head.';

CREATE TABLE ablations (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    relation VARCHAR NOT NULL,
    heads VARCHAR NOT NULL CHECK (heads IN ('relation', 'random', 'control')),
    n_ablated INTEGER NOT NULL,
    method VARCHAR NOT NULL,
    accuracy DOUBLE,
    seed BIGINT
);

COMMENT ON TABLE ablations IS 'One row per step of an ablation: how well the model still performs when heads are removed.';
COMMENT ON COLUMN ablations.run_id IS 'The run that made the row.';
COMMENT ON COLUMN ablations.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN ablations.relation IS 'The task.';
COMMENT ON COLUMN ablations.heads IS 'Which heads were removed: the relation''s best, random ones of the same layers, or the relation''s best on a control task.';
COMMENT ON COLUMN ablations.n_ablated IS 'How many heads were removed.';
COMMENT ON COLUMN ablations.method IS 'What replaced their output: zero, mean or resample.';
COMMENT ON COLUMN ablations.accuracy IS 'Accuracy of the model on the task, 0 to 1.';
COMMENT ON COLUMN ablations.seed IS 'Seed of the random choices.';

CREATE TABLE head_classes (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    class VARCHAR NOT NULL,
    pattern_score DOUBLE,
    effect_score DOUBLE,
    "null" DOUBLE,
    q_value DOUBLE,
    passes BOOLEAN
);

COMMENT ON TABLE head_classes IS 'One row per run, head and class of the literature, such as induction heads.';
COMMENT ON COLUMN head_classes.run_id IS 'The run that made the row.';
COMMENT ON COLUMN head_classes.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN head_classes.layer IS 'Layer, from 0.';
COMMENT ON COLUMN head_classes.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN head_classes.class IS 'The class.';
COMMENT ON COLUMN head_classes.pattern_score IS 'How well the attention pattern fits the class.';
COMMENT ON COLUMN head_classes.effect_score IS 'How well the effect on the output fits the class.';
COMMENT ON COLUMN head_classes."null" IS 'The score that chance reaches.';
COMMENT ON COLUMN head_classes.q_value IS 'p-value against chance after Benjamini-Hochberg.';
COMMENT ON COLUMN head_classes.passes IS 'Whether the head passes the test of the class.';

CREATE TABLE inference_agreements (
    description_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    cluster INTEGER,
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    n_sources INTEGER NOT NULL,
    agreement DOUBLE,
    null_mean DOUBLE,
    lift DOUBLE,
    q_value DOUBLE
);

COMMENT ON TABLE inference_agreements IS 'One row per description and run: does the head do at inference what its description says?';
COMMENT ON COLUMN inference_agreements.description_id IS 'The description that was tested.';
COMMENT ON COLUMN inference_agreements.run_id IS 'The run that made the row.';
COMMENT ON COLUMN inference_agreements.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN inference_agreements.layer IS 'Layer, from 0.';
COMMENT ON COLUMN inference_agreements.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN inference_agreements.cluster IS 'Cluster that is described; NULL for the head as a whole.';
COMMENT ON COLUMN inference_agreements.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN inference_agreements.n_sources IS 'Source tokens that were placed in context.';
COMMENT ON COLUMN inference_agreements.agreement IS 'Share of them whose mapped targets the head''s output promotes (or suppresses), 0 to 1.';
COMMENT ON COLUMN inference_agreements.null_mean IS 'The same share with targets shuffled among the sources.';
COMMENT ON COLUMN inference_agreements.lift IS 'agreement minus null_mean.';
COMMENT ON COLUMN inference_agreements.q_value IS 'Permutation p-value after Benjamini-Hochberg.';
