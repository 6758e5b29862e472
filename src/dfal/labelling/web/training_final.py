"""The operations of the API that train the final model."""

from fastapi import APIRouter

from dfal.labelling.web.context import Page
from dfal.labelling.web.final_model import FinalModelReply

router = APIRouter(prefix="/api/final", tags=["training"])


@router.post("")
def train_final(page: Page) -> FinalModelReply:
    """Start training the final model on all labels but the hold-out.

    `progress` tells how far it is. Labelling continues meanwhile.
    """
    return page.final.start()


@router.post("/cancel")
def cancel_final(page: Page) -> FinalModelReply:
    """Cancel the training. The file of an earlier one stays as it is."""
    return page.final.cancel()
