-- What the main job stores. Fact tables carry no primary key, index or foreign key: DuckDB pays dearly for them,
-- and the ingest checks what they would.

CREATE TABLE catalogue_meta (
    schema_version INTEGER NOT NULL,
    package_version VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);

COMMENT ON TABLE catalogue_meta IS 'What this file is: one row.';
COMMENT ON COLUMN catalogue_meta.schema_version IS 'Number of the last schema step that was applied.';
COMMENT ON COLUMN catalogue_meta.package_version IS 'Version of the program that applied it.';
COMMENT ON COLUMN catalogue_meta.created_at IS 'When the file was made (UTC).';

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL DEFAULT 'describe' CHECK (kind IN ('describe', 'relations', 'check', 'judge')),
    model VARCHAR NOT NULL,
    model_digest VARCHAR,
    architecture VARCHAR,
    n_layers INTEGER,
    n_heads INTEGER,
    n_kv_heads INTEGER,
    d_model INTEGER,
    d_head INTEGER,
    n_vocab INTEGER,
    preset VARCHAR,
    settings JSON,
    settings_digest VARCHAR,
    vocabulary_digest VARCHAR,
    drafter VARCHAR,
    seed BIGINT,
    code_version VARCHAR,
    selection VARCHAR,
    status VARCHAR NOT NULL CHECK (status IN ('running', 'complete', 'failed', 'stopped')),
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    n_described INTEGER,
    n_unclear INTEGER,
    n_failed INTEGER,
    null_checks JSON,
    stage_seconds JSON,
    peak_memory_bytes BIGINT
);

COMMENT ON TABLE runs IS 'One row per run: one job on one model, with all that decided its outcome.';
COMMENT ON COLUMN runs.run_id IS 'Identity of the run.';
COMMENT ON COLUMN runs.kind IS 'Which job: describe, relations, check or judge.';
COMMENT ON COLUMN runs.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN runs.model_digest IS 'sha256 over the content of the weight files.';
COMMENT ON COLUMN runs.architecture IS 'Architecture of the model, as its configuration names it.';
COMMENT ON COLUMN runs.n_layers IS 'Layers of the model.';
COMMENT ON COLUMN runs.n_heads IS 'Query heads of a layer.';
COMMENT ON COLUMN runs.n_kv_heads IS 'Key-value heads of a layer (fewer than n_heads: grouped-query attention).';
COMMENT ON COLUMN runs.d_model IS 'Width of the residual stream.';
COMMENT ON COLUMN runs.d_head IS 'Size of one head''s value vector.';
COMMENT ON COLUMN runs.n_vocab IS 'Rows of the embedding matrix W_E.';
COMMENT ON COLUMN runs.preset IS 'Named settings of the projection: default, paper or custom.';
COMMENT ON COLUMN runs.settings IS 'Every setting of the run, by value.';
COMMENT ON COLUMN runs.settings_digest IS 'sha256 of the settings.';
COMMENT ON COLUMN runs.vocabulary_digest IS 'sha256 of the token texts.';
COMMENT ON COLUMN runs.drafter IS 'Who wrote the descriptions: rules, or a chat model.';
COMMENT ON COLUMN runs.seed IS 'Seed of every random choice.';
COMMENT ON COLUMN runs.code_version IS 'Version of the program.';
COMMENT ON COLUMN runs.selection IS 'The heads asked for; NULL for all.';
COMMENT ON COLUMN runs.status IS 'running, complete, failed, or stopped by a budget.';
COMMENT ON COLUMN runs.started_at IS 'When it began (UTC).';
COMMENT ON COLUMN runs.finished_at IS 'When it ended (UTC).';
COMMENT ON COLUMN runs.n_described IS 'Heads with a description.';
COMMENT ON COLUMN runs.n_unclear IS 'Heads in which no clear pattern was found.';
COMMENT ON COLUMN runs.n_failed IS 'Heads that failed.';
COMMENT ON COLUMN runs.null_checks IS 'What the same drafter described on heads made to have no pattern: heads tried and described, by kind.';
COMMENT ON COLUMN runs.stage_seconds IS 'Wall time of each stage, in seconds.';
COMMENT ON COLUMN runs.peak_memory_bytes IS 'Highest resident memory of the process, in bytes.';

CREATE TABLE heads (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    kv_head INTEGER,
    status VARCHAR NOT NULL CHECK (status IN ('described', 'unclear', 'failed', 'pending')),
    constant_promoted VARCHAR[],
    constant_suppressed VARCHAR[],
    explained_share DOUBLE,
    error VARCHAR
);

COMMENT ON TABLE heads IS 'One row per run and head: what became of it, and what it writes whatever it reads.';
COMMENT ON COLUMN heads.run_id IS 'The run that made the row.';
COMMENT ON COLUMN heads.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN heads.layer IS 'Layer, from 0.';
COMMENT ON COLUMN heads.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN heads.kv_head IS 'The key-value head whose W_V this head uses.';
COMMENT ON COLUMN heads.status IS 'described, unclear (no clear pattern), failed, or pending.';
COMMENT ON COLUMN heads.constant_promoted IS 'Tokens that the head''s mean output raises most, best first.';
COMMENT ON COLUMN heads.constant_suppressed IS 'Tokens that the head''s mean output lowers most, strongest first.';
COMMENT ON COLUMN heads.explained_share IS 'Share of the head''s mapping rows that its descriptions explain, 0 to 1.';
COMMENT ON COLUMN heads.error IS 'Why the head failed; NULL otherwise.';

CREATE TABLE mappings (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    preset VARCHAR NOT NULL,
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    source_rank INTEGER NOT NULL,
    source_id INTEGER NOT NULL,
    source_token VARCHAR NOT NULL,
    saliency DOUBLE,
    contrast DOUBLE,
    split VARCHAR NOT NULL CHECK (split IN ('draft', 'heldout')),
    target_rank INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    target_token VARCHAR NOT NULL,
    logit DOUBLE,
    z DOUBLE
);

COMMENT ON TABLE mappings IS 'One row per run, head, direction, salient source token and target token.';
COMMENT ON COLUMN mappings.run_id IS 'The run that made the row.';
COMMENT ON COLUMN mappings.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN mappings.layer IS 'Layer, from 0.';
COMMENT ON COLUMN mappings.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN mappings.preset IS 'Named settings of the projection: default, paper or custom.';
COMMENT ON COLUMN mappings.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN mappings.source_rank IS '0 for the most salient source token.';
COMMENT ON COLUMN mappings.source_id IS 'Token id of the source, the token attended to.';
COMMENT ON COLUMN mappings.source_token IS 'Text of the source token.';
COMMENT ON COLUMN mappings.saliency IS 'How strongly the head answers to the source: norm of its output over norm of the source.';
COMMENT ON COLUMN mappings.contrast IS 'What ranked the sources where saliency was contrastive: log saliency against the other heads, in standard deviations; NULL otherwise.';
COMMENT ON COLUMN mappings.split IS 'draft: shown to the drafter; heldout: kept for grading.';
COMMENT ON COLUMN mappings.target_rank IS '0 for the target that is raised (or lowered) most.';
COMMENT ON COLUMN mappings.target_id IS 'Token id of the target, the token written.';
COMMENT ON COLUMN mappings.target_token IS 'Text of the target token.';
COMMENT ON COLUMN mappings.logit IS 'The head''s entry for source and target in vocabulary space.';
COMMENT ON COLUMN mappings.z IS 'The logit in standard deviations above the target''s mean over all sources; NULL where targets were not standardised.';

CREATE TABLE clusters (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    preset VARCHAR NOT NULL,
    cluster INTEGER NOT NULL,
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    n_sources INTEGER NOT NULL,
    cohesion DOUBLE,
    source_ids INTEGER[]
);

COMMENT ON TABLE clusters IS 'One row per cluster of a head''s source tokens; cluster -1 holds the noise.';
COMMENT ON COLUMN clusters.run_id IS 'The run that made the row.';
COMMENT ON COLUMN clusters.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN clusters.layer IS 'Layer, from 0.';
COMMENT ON COLUMN clusters.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN clusters.preset IS 'Named settings of the projection: default, paper or custom.';
COMMENT ON COLUMN clusters.cluster IS 'Number of the cluster within head and direction; -1 for noise.';
COMMENT ON COLUMN clusters.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN clusters.n_sources IS 'How many source tokens it holds.';
COMMENT ON COLUMN clusters.cohesion IS 'Mean pairwise cosine of its members'' vectors.';
COMMENT ON COLUMN clusters.source_ids IS 'Token ids of its sources.';

CREATE TABLE descriptions (
    description_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    layer INTEGER NOT NULL,
    head INTEGER NOT NULL,
    cluster INTEGER,
    direction VARCHAR NOT NULL CHECK (direction IN ('promote', 'suppress')),
    status VARCHAR NOT NULL CHECK (status IN ('described', 'unclear', 'failed', 'pending')),
    kind VARCHAR,
    operation VARCHAR,
    inputs_text VARCHAR,
    pattern_text VARCHAR,
    drafter VARCHAR NOT NULL,
    prompt_digest VARCHAR,
    reply VARCHAR,
    evidence JSON,
    support DOUBLE,
    heldout_precision DOUBLE,
    heldout_null DOUBLE,
    n_heldout INTEGER,
    p_value DOUBLE,
    q_value DOUBLE,
    created_at TIMESTAMP DEFAULT (now()::TIMESTAMP)
);

COMMENT ON TABLE descriptions IS 'One row per draft: what a drafter says about a cluster or a whole head, and how it fared on rows it never saw.';
COMMENT ON COLUMN descriptions.description_id IS 'Identity of the draft: digest of all it was made from.';
COMMENT ON COLUMN descriptions.run_id IS 'The run that made the row.';
COMMENT ON COLUMN descriptions.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN descriptions.layer IS 'Layer, from 0.';
COMMENT ON COLUMN descriptions.head IS 'Query head within the layer, from 0.';
COMMENT ON COLUMN descriptions.cluster IS 'Cluster that is described; NULL for the head as a whole.';
COMMENT ON COLUMN descriptions.direction IS 'promote: what the head raises; suppress: what it lowers.';
COMMENT ON COLUMN descriptions.status IS 'described, unclear (no clear pattern), failed (no usable reply), or pending.';
COMMENT ON COLUMN descriptions.kind IS 'What sort of claim it is, such as an operation or a class of targets.';
COMMENT ON COLUMN descriptions.operation IS 'Name of the executable operation it claims; NULL for free text.';
COMMENT ON COLUMN descriptions.inputs_text IS 'Which source tokens it is about, in words.';
COMMENT ON COLUMN descriptions.pattern_text IS 'What the head does with them, in words.';
COMMENT ON COLUMN descriptions.drafter IS 'Who wrote it: rules, or a chat model.';
COMMENT ON COLUMN descriptions.prompt_digest IS 'sha256 of the prompt; NULL where there was none.';
COMMENT ON COLUMN descriptions.reply IS 'The reply as it came; NULL where there was none.';
COMMENT ON COLUMN descriptions.evidence IS 'Examples and figures that the description rests on.';
COMMENT ON COLUMN descriptions.support IS 'Share of the drafting rows on which it holds, 0 to 1.';
COMMENT ON COLUMN descriptions.heldout_precision IS 'Share of the held-out rows on which it holds, 0 to 1.';
COMMENT ON COLUMN descriptions.heldout_null IS 'The same share on shuffled held-out rows.';
COMMENT ON COLUMN descriptions.n_heldout IS 'Number of held-out rows.';
COMMENT ON COLUMN descriptions.p_value IS 'Permutation p-value of heldout_precision against heldout_null.';
COMMENT ON COLUMN descriptions.q_value IS 'The p-value after Benjamini-Hochberg over the run.';
COMMENT ON COLUMN descriptions.created_at IS 'When it was written (UTC).';

CREATE TABLE excluded_tokens (
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    token_id INTEGER NOT NULL,
    token VARCHAR,
    reason VARCHAR NOT NULL
);

COMMENT ON TABLE excluded_tokens IS 'One row per run and token that was kept out of sources and targets.';
COMMENT ON COLUMN excluded_tokens.run_id IS 'The run that made the row.';
COMMENT ON COLUMN excluded_tokens.model IS 'The model''s id with its revision.';
COMMENT ON COLUMN excluded_tokens.token_id IS 'Token id.';
COMMENT ON COLUMN excluded_tokens.token IS 'Text of the token.';
COMMENT ON COLUMN excluded_tokens.reason IS 'Why it was kept out, such as special, unused, padding or under-trained.';

CREATE TABLE llm_calls (
    call_id VARCHAR NOT NULL,
    run_id VARCHAR,
    purpose VARCHAR NOT NULL,
    chat_model VARCHAR NOT NULL,
    prompt_digest VARCHAR,
    request_digest VARCHAR NOT NULL,
    reply VARCHAR,
    status VARCHAR NOT NULL,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cost_usd DOUBLE,
    seconds DOUBLE,
    called_at TIMESTAMP
);

COMMENT ON TABLE llm_calls IS 'One row per call of a chat model.';
COMMENT ON COLUMN llm_calls.call_id IS 'Identity of the call.';
COMMENT ON COLUMN llm_calls.run_id IS 'The run that made the call.';
COMMENT ON COLUMN llm_calls.purpose IS 'draft, judge or detect.';
COMMENT ON COLUMN llm_calls.chat_model IS 'The chat model, as the endpoint names it.';
COMMENT ON COLUMN llm_calls.prompt_digest IS 'sha256 of the prompt file.';
COMMENT ON COLUMN llm_calls.request_digest IS 'sha256 of the whole request: the same request is never paid twice.';
COMMENT ON COLUMN llm_calls.reply IS 'The reply as it came; NULL where there was none.';
COMMENT ON COLUMN llm_calls.status IS 'ok, or why there is no usable reply.';
COMMENT ON COLUMN llm_calls.input_tokens IS 'Tokens sent.';
COMMENT ON COLUMN llm_calls.output_tokens IS 'Tokens received.';
COMMENT ON COLUMN llm_calls.cost_usd IS 'Price of the call in US dollars; NULL where the price is unknown.';
COMMENT ON COLUMN llm_calls.seconds IS 'Wall time of the call, in seconds.';
COMMENT ON COLUMN llm_calls.called_at IS 'When it was made (UTC).';

INSERT INTO catalogue_meta VALUES (0, '', now()::TIMESTAMP);
