"""Writes the tables of docs/performance.md and of the READMEs from the result files in bench/results/.

    python -m binhdan.bench.suite.performance_page --write     # from the root of the repository
    python -m binhdan.bench.suite.performance_page --check     # fails when a page differs from the files
    python -m binhdan.bench.suite.performance_page --record OUTPUT.json -o bench/results/NAME.json

A page marks the place of a table with two comments. The command replaces the lines between them:

    <!-- results: NAME.json -->          commands, table, date, machine and conditions
    <!-- results table: NAME.json -->    the table alone; "NAME.json vi" for Vietnamese
    <!-- end results -->

`--record` converts the `--json` output of `bench peers`, `bench embeddings`, `bench profile` and
`bench load compare`.
"""
