"""Training: pools of sound → random mixes → a network that masks → a model folder.

folders ── sources ──▶ recordings ── mixing ──▶ examples ── loop ──▶ checkpoint, model folder
                        recipe.json says how ──▲─────────▲
"""
