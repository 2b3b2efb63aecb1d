"""The OpenAI Images API over HTTP.

routes ─ bodies, schemas ─ DALLE.prepare ─ scheduler (turns, jobs) ─ engine ─ DALLE.finish ─ answers
"""
