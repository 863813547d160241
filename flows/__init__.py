"""From a study file to an ablation table: study spec, graph, Prefect flow, report and command line."""
