"""The views answer as their comments say, and every table, view and column has a comment."""

from datetime import UTC, datetime

from describe.catalogue.schema import described

PROMISED = {
    "head_catalogue": "model, layer, head, kv_head, head_id, status, description, drafter, "
    "n_clusters, support, heldout_precision, heldout_null, q_value, plausibility_llm, plausibility_human, "
    "n_ratings, agreement_inference, top_relation, top_relation_score, top_relation_lift, "
    "head_classes",
    "mappings": "model, layer, head, preset, direction, source_rank, source_id, source_token, saliency, "
    "split, target_rank, target_id, target_token, logit, z",
    "clusters": "model, layer, head, preset, cluster, direction, n_sources, cohesion, source_ids",
    "descriptions": "description_id, model, layer, head, cluster, direction, status, inputs_text, "
    "pattern_text, drafter, prompt_digest, reply, evidence, created_at, run_id",
    "ratings": "rating_id, description_id, rater_kind, rater, plausibility, verdict, status, is_control, "
    "seconds, comment, rated_at",
    "rating_current": "rating_id, description_id, rater_kind, rater, plausibility, status",
    "detections": "description_id, grader, n, hits, balanced_accuracy, auc, ci_low, ci_high, null_auc, "
    "status",
    "relations": "relation, category, source, licence",
    "relation_pairs": "relation, source, target",
    "relation_scores": "model, layer, head, relation, preset, direction, k, score, n_pairs, null_mean, lift, "
    "p_value, q_value, within_class, identity_score, reversed_score, ci_low, ci_high, "
    "mean_reciprocal_rank",
    "dynamic_scores": "model, layer, head, relation, template, context, direction, k, score",
    "correlations": "model, relation, preset, context, direction, pearson_r, spearman_r, n_heads, "
    "n_templates, max_score",
    "ablations": "model, relation, preset, heads, task, draw, n_ablated, method, accuracy, ci_low, ci_high, "
    "n_prompts, seed",
    "ablation_areas": "model, relation, preset, method, base_accuracy, n_prompts, n_heads, n_read, "
    "accuracy_relation, accuracy_random, accuracy_random_sd, n_draws, layer_matched, n_controls, control_base, "
    "control_accuracy, area, ci_low, ci_high, p_value, q_value, causal, testable, reason, run_id",
    "ablation_current": "model, relation, preset, method, area, ci_low, ci_high, q_value, causal, run_id",
    "causal_relations": "model, relation, preset, n_causal, n_methods, methods, area_low, area_high, run_id",
    "head_classes": "model, layer, head, class, pattern_score, effect_score, null, q_value, passes",
    "class_definitions": "model, class, survey_name, tested, reason",
    "class_members": "model, class, n_heads, heads",
    "runs": "run_id, model, settings, code_version, status, started_at, finished_at",
    "llm_calls": "request_digest, reply, input_tokens, output_tokens, status",
    "catalogue_meta": "schema_version, package_version, created_at",
}


def at(day):
    return datetime(2026, 1, day, tzinfo=UTC)


def test_everything_promised_is_there_and_has_a_comment(catalogue):
    found = {one.name: one for one in described(catalogue.connection)}
    for name, columns in PROMISED.items():
        assert set(columns.split(", ")) <= set(found[name].columns), name
    first = list(found["head_catalogue"].columns)
    assert first[: len(PROMISED["head_catalogue"].split(", "))] == PROMISED["head_catalogue"].split(", ")
    for one in found.values():
        assert one.comment, one.name
        for column, (_, comment) in one.columns.items():
            assert comment, f"{one.name}.{column}"


def test_a_missing_comment_would_be_noticed(catalogue):
    catalogue.connection.execute("CREATE VIEW bare AS SELECT 1 AS a")
    bare = next(one for one in described(catalogue.connection) if one.name == "bare")
    assert bare.comment is None and bare.columns == {"a": ("INTEGER", None)}


def test_keys_stand_on_small_tables_alone(catalogue):
    kinds = catalogue.query(
        "SELECT DISTINCT table_name, constraint_type FROM duckdb_constraints() "
        "WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')"
    ).rows
    assert sorted(kinds) == [
        ("relations", "PRIMARY KEY"),
        ("runs", "PRIMARY KEY"),
        ("schema_migration", "PRIMARY KEY"),
    ]
    assert catalogue.query("SELECT * FROM duckdb_indexes()").rows == []


def front(catalogue, columns, where="true"):
    return catalogue.query(
        f"SELECT {columns} FROM head_catalogue WHERE {where} ORDER BY model, layer, head"
    ).rows


def test_one_row_per_head_of_the_newest_complete_describe_run(catalogue, make, tmp_path):
    catalogue.ingest_run(make.run("old", started_at=at(1)), make.shards(tmp_path / "1"))
    catalogue.ingest_run(make.run("new", started_at=at(3)), make.shards(tmp_path / "2", make.rows(n_heads=2)))
    catalogue.ingest_run(make.run("middle", started_at=at(2)), make.shards(tmp_path / "3"))
    catalogue.ingest_run(make.run("broken", started_at=at(4), status="failed"), make.shards(tmp_path / "4"))
    catalogue.ingest_run(make.run("check", started_at=at(5), kind="check"), {})
    catalogue.ingest_run(make.run("n", "n@2", started_at=at(1)), make.shards(tmp_path / "5", make.rows(1, 1)))
    assert front(catalogue, "model, head_id, run_id") == [
        *[("m@1", head, "new") for head in ("L0H0", "L0H1", "L1H0", "L1H1")],
        ("n@2", "L0H0", "n"),
    ]


def test_description_figures_and_clusters(catalogue, make, tmp_path):
    catalogue.ingest_run(make.run(drafter="rules", preset="default"), make.shards(tmp_path / "s"))
    columns = "head, kv_head, status, description, drafter, n_clusters"
    columns += ", support, heldout_precision, heldout_null, q_value"
    figures = (0.5, 0.75, 0.25, 0.01)
    assert front(catalogue, columns, "layer = 0") == [
        (0, 0, "described", "writes it's", "rules", 2, *figures),
        (1, 1, "unclear", None, "rules", 2, *figures),
        (2, 2, "failed", None, "rules", 2, *figures),
    ]
    assert front(catalogue, "n_ratings, plausibility_human, top_relation, head_classes", "layer = 1") == (
        [(0, None, None, None)] * 3
    )


def test_the_surer_direction_speaks_for_the_head(catalogue, make, tmp_path):
    one = {"layer": 0, "head": 0, "drafter": "rules", "status": "described"}
    rows = make.rows(n_layers=1, n_heads=2)
    rows["descriptions"] = [
        one | {"description_id": "a", "direction": "promote", "pattern_text": "weak", "q_value": 0.04},
        one | {"description_id": "b", "direction": "suppress", "pattern_text": "strong", "q_value": 0.001},
        one | {"description_id": "c", "direction": "promote", "pattern_text": "none", "status": "unclear"},
        one
        | {
            "description_id": "d",
            "direction": "promote",
            "pattern_text": "part",
            "cluster": 0,
            "q_value": 0.0,
        },
    ]
    catalogue.ingest_run(make.run(), make.shards(tmp_path / "s", rows))
    assert front(catalogue, "description, direction, description_id") == [
        ("strong", "suppress", "b"),
        (None, None, None),
    ]


def rate(number, rater, plausibility, day, kind="human", **more):
    event = {"rating_id": str(number), "description_id": "d-0-0", "layer": 0, "head": 0, "rater_kind": kind}
    event |= {"rater": rater, "plausibility": plausibility, "is_control": False, "rated_at": at(day)}
    return event | {"status": "rated" if plausibility else "withdrawn"} | more


def test_ratings_count_each_raters_last_word(catalogue, make, tmp_path):
    rows = make.rows() | {
        "ratings": [
            rate(1, "ann", 1, 1),
            rate(2, "ann", 4, 2),
            rate(3, "bob", 2, 1),
            rate(4, "cat", 5, 1),
            rate(5, "cat", None, 2),
            rate(6, "judge", 3, 1, kind="llm"),
            rate(7, "bob", 5, 3, is_control=True),
            rate(8, "ann", 1, 9, description_id="other"),
        ]
    }
    catalogue.ingest_run(make.run(), make.shards(tmp_path / "s", rows))
    assert front(catalogue, "plausibility_human, plausibility_llm, n_ratings", "head_id = 'L0H0'") == [
        (3.0, 3.0, 3)
    ]
    assert front(catalogue, "plausibility_human, n_ratings", "head_id = 'L0H1'") == [(None, 0)]
    current = "SELECT rating_id FROM rating_current ORDER BY 1"
    assert [row[0] for row in catalogue.query(current).rows] == ["2", "3", "5", "6", "7", "8"]


def test_evaluation_of_later_runs_reaches_the_front_door(catalogue, make, tmp_path):
    def scored(relation, lift, q_value=0.001, main=True):
        row = {
            "layer": 0,
            "head": 0,
            "relation": relation,
            "preset": "default",
            "direction": "promote",
            "k": 10,
            "main": main,
            "q_value": q_value,
        }
        return row | {"score": lift and lift + 0.25, "n_pairs": 40, "lift": lift}

    def classed(name, passes, head=0):
        return {"layer": 0, "head": head, "class": name, "passes": passes}

    def agreed(agreement, description_id="d-0-0"):
        place = {"layer": 0, "head": 0, "direction": "promote", "n_sources": 9}
        return place | {"description_id": description_id, "agreement": agreement}

    def store(run_id, day, rows, **values):
        run = make.run(run_id, started_at=at(day), kind="check", **values)
        catalogue.ingest_run(run, make.shards(tmp_path / run_id, rows))

    catalogue.ingest_run(make.run(started_at=at(9)), make.shards(tmp_path / "s"))
    store("old", 1, {"relation_scores": [scored("stale", 0.9)], "inference_agreements": [agreed(0.1)]})
    chance, weak, other_k = (
        scored("chance", 0.8, q_value=0.2),
        scored("weak", 0.1),
        scored("top", 0.7, main=False) | {"k": 25},
    )
    rescored = [scored("stale", 0.1), scored("low", 0.2), scored("top", 0.5), scored("void", None)]
    store("new", 2, {"relation_scores": [*rescored, chance, weak, other_k]})
    store("of others", 3, {"relation_scores": [scored("own", 0.3)]})  # hides nothing that it did not score
    store("bad", 4, {"relation_scores": [scored("unfinished", 0.9)]}, status="stopped")
    store(
        "battery", 4, {"head_classes": [classed("mover", True), classed("copy", True), classed("x", False)]}
    )
    more = [agreed(0.8), agreed(0.9, "another")]
    store("agree", 5, {"inference_agreements": more})
    columns = "top_relation, top_relation_score, top_relation_lift, head_classes, agreement_inference"
    assert front(catalogue, columns, "head_id = 'L0H0'") == [("top", 0.75, 0.5, ["copy", "mover"], 0.8)]
    assert front(catalogue, columns, "head_id = 'L0H1'") == [(None,) * 5]


def test_a_tested_head_without_a_class_has_an_empty_list(catalogue, make, tmp_path):
    rows = make.rows() | {"head_classes": [{"layer": 0, "head": 0, "class": "mover", "passes": False}]}
    catalogue.ingest_run(make.run(), make.shards(tmp_path / "s", rows))
    assert front(catalogue, "head_classes", "layer = 0 AND head < 2") == [([],), (None,)]
