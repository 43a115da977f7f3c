-- Ablations: what was run, how sure its figures are, and what the removal of a relation's heads costs beyond chance.

ALTER TABLE ablations ADD COLUMN preset VARCHAR DEFAULT 'default';
ALTER TABLE ablations ADD COLUMN task VARCHAR;
ALTER TABLE ablations ADD COLUMN draw INTEGER;
ALTER TABLE ablations ADD COLUMN n_prompts INTEGER;
ALTER TABLE ablations ADD COLUMN ci_low DOUBLE;
ALTER TABLE ablations ADD COLUMN ci_high DOUBLE;
COMMENT ON TABLE ablations IS 'One row per step of an ablation: how well the model still does a task when heads are removed at the last position.';
COMMENT ON COLUMN ablations.relation IS 'The relation whose heads, or random ones in their place, are removed.';
COMMENT ON COLUMN ablations.heads IS 'relation: its heads, on its task; random: others of the same layers, on its task; control: its heads, on another task.';
COMMENT ON COLUMN ablations.method IS 'What took the place of a head''s output: zero; mean: its mean over the prompts; resample: its output on another prompt.';
COMMENT ON COLUMN ablations.accuracy IS 'Share of the prompts whose most likely next token is the right one, 0 to 1.';
COMMENT ON COLUMN ablations.preset IS 'Settings of the projection whose scores say which heads are the relation''s: default or paper.';
COMMENT ON COLUMN ablations.task IS 'The relation whose task was run: another than relation for controls.';
COMMENT ON COLUMN ablations.draw IS 'Number of the random draw, from 0; NULL for other heads.';
COMMENT ON COLUMN ablations.n_prompts IS 'Prompts of the task.';
COMMENT ON COLUMN ablations.ci_low IS 'Lower end of the 95 % Wilson interval of accuracy.';
COMMENT ON COLUMN ablations.ci_high IS 'Upper end of the 95 % Wilson interval of accuracy.';

CREATE TABLE ablation_areas (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    relation VARCHAR NOT NULL,
    preset VARCHAR NOT NULL,
    method VARCHAR NOT NULL CHECK (method IN ('zero', 'mean', 'resample')),
    base_accuracy DOUBLE NOT NULL,
    n_prompts INTEGER NOT NULL,
    n_heads INTEGER NOT NULL,
    n_read INTEGER,
    accuracy_relation DOUBLE,
    accuracy_random DOUBLE,
    accuracy_random_sd DOUBLE,
    n_draws INTEGER NOT NULL,
    layer_matched DOUBLE,
    n_controls INTEGER NOT NULL,
    control_base DOUBLE,
    control_accuracy DOUBLE,
    area DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    p_value DOUBLE,
    q_value DOUBLE,
    causal BOOLEAN NOT NULL,
    testable BOOLEAN NOT NULL,
    reason VARCHAR
);

CREATE VIEW ablation_current AS
WITH sizes AS (
    SELECT run_id, relation, preset, count(*) AS n_methods FROM ablation_areas GROUP BY run_id, relation, preset
),
newest_weights AS (
    SELECT r.model, arg_max(r.model_digest, r.started_at) AS model_digest
    FROM runs r SEMI JOIN ablation_areas a ON r.run_id = a.run_id
    WHERE r.status = 'complete'
    GROUP BY r.model
)
SELECT a.*
FROM ablation_areas a
JOIN runs r ON a.run_id = r.run_id AND r.status = 'complete'
JOIN newest_weights w ON r.model = w.model AND r.model_digest = w.model_digest
JOIN sizes z ON a.run_id = z.run_id AND a.relation = z.relation AND a.preset = z.preset
QUALIFY dense_rank() OVER (
    -- A quick run, of one method and fewer prompts, must not hide a whole one.
    PARTITION BY a.model, a.relation, a.preset
    ORDER BY z.n_methods DESC, a.n_prompts DESC, r.started_at DESC, a.run_id DESC
) = 1;

CREATE VIEW causal_relations AS
SELECT
    model, relation, preset, base_accuracy, n_heads,
    count(*) FILTER (causal) AS n_causal,
    count(*) AS n_methods,
    list(method ORDER BY method) FILTER (causal) AS methods,
    min(area) AS area_low,
    max(area) AS area_high,
    run_id
FROM ablation_current
WHERE testable
GROUP BY model, relation, preset, base_accuracy, n_heads, run_id
HAVING count(*) FILTER (causal AND method != 'resample') > 0;

COMMENT ON TABLE ablation_areas IS 'One row per run, relation, preset and method: what the removal of the relation''s heads costs its task beyond that of random heads.';
COMMENT ON COLUMN ablation_areas.run_id IS 'The run that made the row.';
COMMENT ON COLUMN ablation_areas.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN ablation_areas.relation IS 'The relation whose heads were removed.';
COMMENT ON COLUMN ablation_areas.preset IS 'Settings of the projection whose scores say which heads are the relation''s: default or paper.';
COMMENT ON COLUMN ablation_areas.method IS 'What took the place of a head''s output: zero; mean: its mean over the prompts; resample: its output on another prompt.';
COMMENT ON COLUMN ablation_areas.base_accuracy IS 'Accuracy on the relation''s task with all heads in place, 0 to 1.';
COMMENT ON COLUMN ablation_areas.n_prompts IS 'Prompts of the relation''s task.';
COMMENT ON COLUMN ablation_areas.n_heads IS 'Heads of the relation, those with a score from the weights, that were removed in the end.';
COMMENT ON COLUMN ablation_areas.n_read IS 'How many were removed where the accuracies are read: the first count at which nothing was right any more, else the last.';
COMMENT ON COLUMN ablation_areas.accuracy_relation IS 'Accuracy there without the relation''s heads.';
COMMENT ON COLUMN ablation_areas.accuracy_random IS 'Accuracy there without as many random heads, mean of the draws.';
COMMENT ON COLUMN ablation_areas.accuracy_random_sd IS 'Standard deviation over the draws.';
COMMENT ON COLUMN ablation_areas.n_draws IS 'Draws of random heads.';
COMMENT ON COLUMN ablation_areas.layer_matched IS 'Share of the random heads that are of the very layer of the head that they stand for; the others are of the nearest.';
COMMENT ON COLUMN ablation_areas.n_controls IS 'Control tasks: as easy, and resting on other heads.';
COMMENT ON COLUMN ablation_areas.control_base IS 'Mean accuracy on the control tasks with all heads in place; NULL without any.';
COMMENT ON COLUMN ablation_areas.control_accuracy IS 'Mean accuracy on the control tasks without the relation''s heads.';
COMMENT ON COLUMN ablation_areas.area IS 'Mean height, over 0 to n_heads removed heads, of the accuracy without random heads above that without the relation''s; NULL if not testable.';
COMMENT ON COLUMN ablation_areas.ci_low IS 'Lower end of the 95 % bootstrap interval of area, over prompts by bootstrap, over sets of heads by Student''s t.';
COMMENT ON COLUMN ablation_areas.ci_high IS 'Upper end of the 95 % bootstrap interval of area.';
COMMENT ON COLUMN ablation_areas.p_value IS 'Bootstrap share of areas that are not above 0, never 0.';
COMMENT ON COLUMN ablation_areas.q_value IS 'The p-value after Benjamini-Hochberg over relations and methods of the run.';
COMMENT ON COLUMN ablation_areas.causal IS 'Whether ci_low is above 0 and q_value below 0.05.';
COMMENT ON COLUMN ablation_areas.testable IS 'Whether the model does the task well enough, and heads are known, for a removal to show.';
COMMENT ON COLUMN ablation_areas.reason IS 'Why it is not testable; NULL if it is.';

COMMENT ON VIEW ablation_current IS 'One row per model, relation, preset and method: areas of the newest run, the more methods and prompts before the newer.';
COMMENT ON COLUMN ablation_current.run_id IS 'The run that made the row.';
COMMENT ON COLUMN ablation_current.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN ablation_current.relation IS 'The relation whose heads were removed.';
COMMENT ON COLUMN ablation_current.preset IS 'Settings of the projection whose scores say which heads are the relation''s: default or paper.';
COMMENT ON COLUMN ablation_current.method IS 'What took the place of a head''s output: zero; mean: its mean over the prompts; resample: its output on another prompt.';
COMMENT ON COLUMN ablation_current.base_accuracy IS 'Accuracy on the relation''s task with all heads in place, 0 to 1.';
COMMENT ON COLUMN ablation_current.n_prompts IS 'Prompts of the relation''s task.';
COMMENT ON COLUMN ablation_current.n_heads IS 'Heads of the relation, those with a score from the weights, that were removed in the end.';
COMMENT ON COLUMN ablation_current.n_read IS 'How many were removed where the accuracies are read: the first count at which nothing was right any more, else the last.';
COMMENT ON COLUMN ablation_current.accuracy_relation IS 'Accuracy there without the relation''s heads.';
COMMENT ON COLUMN ablation_current.accuracy_random IS 'Accuracy there without as many random heads, mean of the draws.';
COMMENT ON COLUMN ablation_current.accuracy_random_sd IS 'Standard deviation over the draws.';
COMMENT ON COLUMN ablation_current.n_draws IS 'Draws of random heads.';
COMMENT ON COLUMN ablation_current.layer_matched IS 'Share of the random heads that are of the very layer of the head that they stand for; the others are of the nearest.';
COMMENT ON COLUMN ablation_current.n_controls IS 'Control tasks: as easy, and resting on other heads.';
COMMENT ON COLUMN ablation_current.control_base IS 'Mean accuracy on the control tasks with all heads in place; NULL without any.';
COMMENT ON COLUMN ablation_current.control_accuracy IS 'Mean accuracy on the control tasks without the relation''s heads.';
COMMENT ON COLUMN ablation_current.area IS 'Mean height, over 0 to n_heads removed heads, of the accuracy without random heads above that without the relation''s; NULL if not testable.';
COMMENT ON COLUMN ablation_current.ci_low IS 'Lower end of the 95 % bootstrap interval of area, over prompts by bootstrap, over sets of heads by Student''s t.';
COMMENT ON COLUMN ablation_current.ci_high IS 'Upper end of the 95 % bootstrap interval of area.';
COMMENT ON COLUMN ablation_current.p_value IS 'Bootstrap share of areas that are not above 0, never 0.';
COMMENT ON COLUMN ablation_current.q_value IS 'The p-value after Benjamini-Hochberg over relations and methods of the run.';
COMMENT ON COLUMN ablation_current.causal IS 'Whether ci_low is above 0 and q_value below 0.05.';
COMMENT ON COLUMN ablation_current.testable IS 'Whether the model does the task well enough, and heads are known, for a removal to show.';
COMMENT ON COLUMN ablation_current.reason IS 'Why it is not testable; NULL if it is.';

COMMENT ON VIEW causal_relations IS 'One row per model, relation and preset whose heads the running model needs for the relation''s task, by zero or mean ablation (resampling brings in another prompt''s answer, and alone proves no need).';
COMMENT ON COLUMN causal_relations.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN causal_relations.relation IS 'The relation whose heads were removed.';
COMMENT ON COLUMN causal_relations.preset IS 'Settings of the projection whose scores say which heads are the relation''s: default or paper.';
COMMENT ON COLUMN causal_relations.base_accuracy IS 'Accuracy on the relation''s task with all heads in place, 0 to 1.';
COMMENT ON COLUMN causal_relations.n_heads IS 'Heads of the relation, those with a score from the weights, that were removed in the end.';
COMMENT ON COLUMN causal_relations.n_causal IS 'Methods of removal by which it is causal.';
COMMENT ON COLUMN causal_relations.n_methods IS 'Methods that were tried.';
COMMENT ON COLUMN causal_relations.methods IS 'The former, by name.';
COMMENT ON COLUMN causal_relations.area_low IS 'Smallest area of any method.';
COMMENT ON COLUMN causal_relations.area_high IS 'Largest area of any method.';
COMMENT ON COLUMN causal_relations.run_id IS 'The run that made the row.';
