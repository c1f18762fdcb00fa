"""The RPC codes that clients and daemons send, with the types of requests and responses."""

from __future__ import annotations

from shared.pegasus.client.connection import Call
from shared.pegasus.wire.structures import backup, bulk_load, command, failure_detector, layer2, rrdb
from shared.pegasus.wire.structures import meta_admin as admin
from shared.pegasus.wire.thrift import I64

# routing (§12.2)
QUERY_CONFIG = Call("RPC_CM_QUERY_PARTITION_CONFIG_BY_INDEX", layer2.QueryCfgRequest, layer2.QueryCfgResponse)

# tables and the cluster (§12.3 to §12.6)
CREATE_APP = Call("RPC_CM_CREATE_APP", admin.CreateAppRequest, admin.CreateAppResponse)
DROP_APP = Call("RPC_CM_DROP_APP", admin.DropAppRequest, admin.DropAppResponse)
RECALL_APP = Call("RPC_CM_RECALL_APP", admin.RecallAppRequest, admin.RecallAppResponse)
RENAME_APP = Call("RPC_CM_RENAME_APP", admin.RenameAppRequest, admin.RenameAppResponse)
LIST_APPS = Call("RPC_CM_LIST_APPS", admin.ListAppsRequest, admin.ListAppsResponse)
LIST_NODES = Call("RPC_CM_LIST_NODES", admin.ListNodesRequest, admin.ListNodesResponse)
CLUSTER_INFO = Call("RPC_CM_CLUSTER_INFO", admin.ClusterInfoRequest, admin.ClusterInfoResponse)
UPDATE_APP_ENV = Call("RPC_CM_UPDATE_APP_ENV", admin.UpdateAppEnvRequest, admin.UpdateAppEnvResponse)
CONTROL_META = Call("RPC_CM_CONTROL_META", admin.MetaControlRequest, admin.MetaControlResponse)
PROPOSE_BALANCER = Call("RPC_CM_PROPOSE_BALANCER", admin.BalancerRequest, admin.BalancerResponse)
DDD_DIAGNOSE = Call("RPC_CM_DDD_DIAGNOSE", admin.DddDiagnoseRequest, admin.DddDiagnoseResponse)
CLI_CALL = Call("RPC_CLI_CLI_CALL", command.Command, str)

# between daemons (§13.3)
BEACON = Call("RPC_FD_FAILURE_DETECTOR_PING", failure_detector.BeaconMessage, failure_detector.BeaconAck)
CONFIG_SYNC = Call("RPC_CM_CONFIG_SYNC", admin.ConfigSyncRequest, admin.ConfigSyncResponse)
UPDATE_CONFIGURATION = Call(
    "RPC_CM_UPDATE_PARTITION_CONFIGURATION", admin.UpdateConfigurationRequest, admin.UpdateConfigurationResponse
)
CONFIG_PROPOSAL = Call("RPC_CONFIG_PROPOSAL", admin.UpdateConfigurationRequest, admin.UpdateConfigurationResponse)
BULK_LOAD = Call("RPC_BULK_LOAD", bulk_load.BulkLoadRequest, bulk_load.BulkLoadResponse)
COLD_BACKUP = Call("RPC_COLD_BACKUP", backup.BackupRequest, backup.BackupResponse)


# the data plane (§11)
PUT = Call("RPC_RRDB_RRDB_PUT", rrdb.UpdateRequest, rrdb.UpdateResponse)
MULTI_PUT = Call("RPC_RRDB_RRDB_MULTI_PUT", rrdb.MultiPutRequest, rrdb.UpdateResponse)
REMOVE = Call("RPC_RRDB_RRDB_REMOVE", bytes, rrdb.UpdateResponse)
MULTI_REMOVE = Call("RPC_RRDB_RRDB_MULTI_REMOVE", rrdb.MultiRemoveRequest, rrdb.MultiRemoveResponse)
INCR = Call("RPC_RRDB_RRDB_INCR", rrdb.IncrRequest, rrdb.IncrResponse)
CHECK_AND_SET = Call("RPC_RRDB_RRDB_CHECK_AND_SET", rrdb.CheckAndSetRequest, rrdb.CheckAndSetResponse)
CHECK_AND_MUTATE = Call("RPC_RRDB_RRDB_CHECK_AND_MUTATE", rrdb.CheckAndMutateRequest, rrdb.CheckAndMutateResponse)
GET = Call("RPC_RRDB_RRDB_GET", bytes, rrdb.ReadResponse)
MULTI_GET = Call("RPC_RRDB_RRDB_MULTI_GET", rrdb.MultiGetRequest, rrdb.MultiGetResponse)
BATCH_GET = Call("RPC_RRDB_RRDB_BATCH_GET", rrdb.BatchGetRequest, rrdb.BatchGetResponse)
SORTKEY_COUNT = Call("RPC_RRDB_RRDB_SORTKEY_COUNT", bytes, rrdb.CountResponse)
TTL = Call("RPC_RRDB_RRDB_TTL", bytes, rrdb.TtlResponse)
GET_SCANNER = Call("RPC_RRDB_RRDB_GET_SCANNER", rrdb.GetScannerRequest, rrdb.ScanResponse)
SCAN = Call("RPC_RRDB_RRDB_SCAN", rrdb.ScanRequest, rrdb.ScanResponse)
CLEAR_SCANNER = Call("RPC_RRDB_RRDB_CLEAR_SCANNER", I64, I64)
