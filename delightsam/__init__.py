"""De-LightSAM (Xu et al., IEEE TCSVT 2025, arXiv 2407.14153): modality-decoupled light SAM, as a library.

```python
from delightsam import DeLightSAM, from_authors
model = from_authors({0: state_dict_a, 2: state_dict_b})  # modality number -> the authors' state dict for it
logits = model(images, modality)       # (B, 3, S, S) float, (B,) int64 -> (B, 1, S, S) float
fast = accelerate(model.eval())        # a copy that predicts faster, for inference only
mask = model.segment(image, "fundus")  # (H, W, 3) or (H, W) uint8, name or number -> (H, W) bool
```
"""

from delightsam.inference import accelerate
from delightsam.modeling.config import MODALITY_NUMBERS, DeLightSAMConfig
from delightsam.modeling.model import DeLightSAM, Outputs
from delightsam.modeling.segmentation import modality_number
from delightsam.weights.add_modality import add_modality, modality_parameters
from delightsam.weights.checkpoints import from_authors, from_authors_files, load, save, save_authors, to_authors
from delightsam.weights.sam_family import initialise_from
from delightsam.weights.trial_weights import from_trial
from delightsam.weights.weights_files import WeightsError

__all__ = [
    "MODALITY_NUMBERS",
    "DeLightSAM",
    "DeLightSAMConfig",
    "Outputs",
    "WeightsError",
    "accelerate",
    "add_modality",
    "from_authors",
    "from_authors_files",
    "from_trial",
    "initialise_from",
    "load",
    "modality_number",
    "modality_parameters",
    "save",
    "save_authors",
    "to_authors",
]
