"""Made data: words spoken by espeak-ng, and pictures with a rare class drawn by a small network."""
