"""What libraries import from `ray._raylet`, where Ray's classes of ids and refs are defined.

Room: api. Nothing is defined here.
"""

from aioray.client.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from aioray.client.refs import ObjectRef
from aioray.shared.id_classes import (
    ActorClassID,
    ActorID,
    BaseID,
    FunctionID,
    JobID,
    NodeID,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)

__all__ = [
    "ActorClassID",
    "ActorID",
    "BaseID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "StreamingObjectRefGenerator",
    "TaskID",
    "UniqueID",
    "WorkerID",
]

ObjectID = ObjectRef
StreamingObjectRefGenerator = ObjectRefGenerator
