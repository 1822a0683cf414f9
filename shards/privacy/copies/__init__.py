"""Search for altered copies of real images by their pixels: cropped, turned, covered, blurred, inverted ones.

A copy survives alterations that a recognition net does not see through. The search compares small gray pictures, and
tries every view of a reference that an altered copy may show. `pictures` has the pictures, `views` and `degradations`
what an alteration does to them, `hypotheses` their list, `whitening` the comparison, `model` and `search` the search.
"""
