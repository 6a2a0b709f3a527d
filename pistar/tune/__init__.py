"""The search for settings: a driver owns a study, workers train its trials. See docs/how-to/tune.md.

Optuna proposes (`study`), workers in processes of their own train (`worker`, `crew`), races end what is hopeless
(`racing`), and nothing is believed before it has been seen on fresh seeds (`comparison`).
"""
