"""The OpenAI Images API over HTTP.

routes ─ bodies, schemas ─ DALLE.prepare ─ scheduler (turns, jobs) ─ engine ─ DALLE.finish ─ answers
judgement ─ bodies, judgement_schemas ─ scheduler (turns, questions) ─ Judge ─ answers
"""
