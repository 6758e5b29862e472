"""Views in the store of `dfal run`, for programs that read SQLite and do not know dfal.

A trial's configuration is one JSON text. The views give its fields names, and put the measurements
of a round into one row. dfal itself reads the tables. docs/store.md describes both.
"""

VIEWS = (
    # The strategy is {its class: its settings}; a wrapper has the wrapped one among its settings.
    """CREATE VIEW trial_settings AS
SELECT trial, json_extract(config, '$.Trial.dataset') AS dataset,
  json_extract(config, '$.Trial.model') AS model,
  kind || COALESCE('(' || (SELECT key FROM json_each(settings, '$.strategy')) || ')', '') AS strategy,
  json_extract(config, '$.Trial.seed') AS seed, settings AS strategy_settings,
  json_extract(config, '$.Trial') AS config
FROM (SELECT trial, config, strategies.key AS kind, strategies.value AS settings
  FROM trials, json_each(config, '$.Trial.strategy') AS strategies)""",
    """CREATE VIEW curve AS
SELECT trial, dataset, model, strategy, seed, round, CAST(a.value AS INTEGER) AS annotations,
  (SELECT CAST(value AS INTEGER) FROM measurements AS l
    WHERE l.trial = a.trial AND l.round = a.round AND l.name = 'labelled_data') AS labelled_data,
  m.value AS accuracy
FROM trial_settings JOIN measurements AS a USING (trial) JOIN measurements AS m USING (trial, round)
WHERE a.name = 'annotations' AND m.name = 'accuracy'""",
    """CREATE VIEW queried_images AS
SELECT trial, dataset, model, strategy, seed, round, position, q.image, score, seen AS predicted, label
FROM trial_settings JOIN questions AS q USING (trial) JOIN answers USING (trial, round, position)""",
)
"""The statements that make the views. A store of version 1 gets them when it is opened to write."""
