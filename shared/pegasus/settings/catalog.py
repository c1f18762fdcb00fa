"""Every setting of Pegasus: section, name, type, default and meaning (protocol appendix B).

A setting is one line with its name, `*` if it can be changed while running, its type (`b`ool, `i32`, `u32`, `i64`,
`u64`, `d`ouble, `s`tring) and its default, and one with what it says about itself. Both daemons list all of them,
also those that nothing here depends on.

Three lines are ours. `min_live_node_count_for_unfreeze` is 1 (3 in the original) and `mutation_2pc_min_replica_count`
is 0 (2 in the original), so that one metaserver and one replica server make a cluster; `compat_omit_host_port` is new.
"""

CATALOG = """
[components.pegasus_perf_counter_number_percentile_atomic]
counter_computation_interval_seconds i32=10
    How often percentiles are recomputed, in seconds

[core]
local_hash u32=0
    Seed that tells hashes of different processes apart
logging_flush_on_exit b=true
    Whether the log is flushed when the process exits
logging_start_level s=LOG_LEVEL_INFO
    The least important level that is logged
pause_on_start b=false
    Whether the process waits for a debugger before it starts
tcmalloc_release_rate d=1.00
    How eagerly tcmalloc returns memory to the system
timer_service_worker_count u32=3
    Number of threads that run timers

[http]
curl_timeout_ms u32=10000
    Longest time of an outgoing HTTP request, in milliseconds
enable_http_server b=true
    Whether the port answers HTTP

[meta_server]
add_secondary_enable_flow_control b=false
    Whether the number of secondaries added to a node at a time is limited
add_secondary_max_count_for_one_node i32=10
    Most secondaries that are added to one node at a time
balance_cluster* b=false
    Whether replicas are balanced over the whole cluster instead of table by table
balance_op_count_per_round* u32=10
    Most balance operations of one round
balancer_in_turn b=false
    Whether tables are balanced one after the other
bulk_load_max_rollback_times* u32=10
    How often a failed bulk load goes back to downloading before it fails for good
bulk_load_node_max_ingesting_count* u32=4
    Most partitions that a node ingests at a time
bulk_load_node_min_disk_count* u32=1
    Disks a node has at least, for the spreading of ingestion
bulk_load_verify_before_ingest* b=false
    Whether the engine verifies SST checksums before it ingests a file
cluster_root s=/
    Root of the cluster's metadata
cold_backup_disabled b=true
    Whether the cold backup subsystem is off
distributed_lock_service_parameters s=
    Parameters of the service that holds the leader lock
distributed_lock_service_type s=distributed_lock_service_zookeeper
    Kind of the service that holds the leader lock
enable_concurrent_bulk_load* b=false
    Whether several tables may be bulk loaded at the same time
enable_white_list b=false
    Whether only replica servers of the white list may join
hold_seconds_for_dropped_app i32=604800
    How long a dropped table can be recalled, in seconds
max_allowed_replica_count* i32=5
    Largest replica count that a table may have
max_replicas_in_group i32=4
    Most members of a replica group, learners included
max_reserved_dropped_replicas* u32=1
    Dropped replicas of a partition whose data is kept for a return
max_succssive_unstable_restart i32=5
    Restarts in quick succession after which a replica server is left out
meta_function_level_on_start s=steady
    Function level of a metaserver that starts: stopped, blind, freezed, steady or lively
meta_state_service_parameters s=
    Parameters of the store of metadata
meta_state_service_type s=meta_state_service_zookeeper
    Kind of the store of metadata
min_allowed_replica_count* i32=1
    Smallest replica count that a table may have
min_live_node_count_for_unfreeze* u64=1
    Alive replica servers below which the cluster is frozen
node_live_percentage_threshold_for_update i32=65
    Percentage of alive replica servers below which the cluster is frozen
only_move_primary b=false
    Whether the balancer only exchanges primaries and secondaries
only_primary_balancer b=false
    Whether the balancer leaves secondaries alone
partition_guardian_type s=partition_guardian
    Kind of the part that repairs partitions
recover_from_replica_server b=false
    Whether metadata is rebuilt from the replica servers at start
replica_assign_delay_ms_for_dropouts i64=600000
    How long a dropped replica is waited for before another one is made, in milliseconds
replica_white_list s=
    Replica servers that may join, when the white list is enabled
server_list s=
    Addresses of all metaservers of the cluster
server_load_balancer_type s=greedy_load_balancer
    Kind of the balancer
stable_rs_min_running_seconds u64=600
    Running time after which a replica server counts as stable, in seconds

[metrics]
builtin_metrics_update_interval_ms u64=10000
    How often metrics of the process itself are measured, in milliseconds
entity_retirement_delay_ms u64=600000
    How long metrics of something gone are still shown, in milliseconds

[network]
compat_omit_host_port b=false
    Whether answers leave out host_port members, which clients older than 2.5 cannot read
conn_pool_max_size u32=4
    Most connections to one server that are kept for reuse
conn_threshold_per_ip u32=0
    Most connections from one address, 0 for no limit
enable_udp b=true
    Whether UDP is served
explicit_host_address s=
    Address under which this process is known, instead of the detected one
io_service_worker_count u32=4
    Number of threads that do network input and output
primary_interface s=
    Network interface whose address this process is known by
socket_recv_buffer_bytes i32=16777216
    Size of the receive buffer of a socket, in bytes
socket_send_buffer_bytes i32=16777216
    Size of the send buffer of a socket, in bytes
unknown_message_header_format s=
    Format assumed for messages whose header is unknown

[nfs]
file_close_expire_time_ms i32=60000
    How long a file that is being copied stays open unused, in milliseconds
file_close_timer_interval_ms_on_server i32=30000
    How often unused files are looked for, in milliseconds
high_priority_speed_rate i32=2
    How many times faster urgent copies are than others
max_buffered_local_writes i32=500
    Most blocks that wait to be written on the copying side
max_concurrent_local_writes i32=50
    Most blocks written at a time on the copying side
max_concurrent_remote_copy_requests i32=50
    Most copy requests under way at a time
max_copy_rate_megabytes_per_disk* i64=0
    Fastest copying from others for each disk, in megabytes a second, 0 for no limit
max_file_copy_request_count_per_file i32=2
    Most copy requests under way for one file
max_retry_count_per_copy_request i32=2
    How often a failed copy request is repeated
max_send_rate_megabytes_per_disk* i64=0
    Fastest sending to others for each disk, in megabytes a second, 0 for no limit
nfs_copy_block_bytes u32=4194304
    Size of a block in which files are copied, in bytes
rpc_timeout_ms i32=100000
    Longest time of a copy request, in milliseconds

[pegasus.collector]
app_stat_interval_seconds u32=10
    How often the collector reads the metrics of tables, in seconds
available_detect_alert_email_address s=
    Who is told when the cluster is unavailable
available_detect_alert_fail_count i32=30
    Failures in a row after which an alert is sent
available_detect_alert_script_dir s=.
    Folder of the script that sends alerts
available_detect_app s=
    Table on which availability is tried
available_detect_interval_seconds u32=3
    How often availability is tried, in seconds
available_detect_timeout u32=1000
    Longest time of a try, in milliseconds
capacity_unit_fetch_interval_seconds u32=8
    How often the collector reads capacity units, in seconds
capacity_unit_saving_ttl_days i32=90
    How long the collector keeps capacity units, in days
enable_detect_hotkey* b=false
    Whether hot keys are looked for in hot partitions
hot_partition_threshold* u32=3
    Score from which a partition counts as hot
max_hotspot_store_size i64=100
    Samples of a partition that are kept to find hotspots
occurrence_threshold* u32=3
    Times that a partition must be hot before its keys are looked at
storage_size_fetch_interval_seconds u32=3600
    How often the collector reads storage sizes, in seconds
usage_stat_app s=
    Table in which the collector keeps its results

[pegasus.server]
checkpoint_reserve_min_count* u32=2
    Checkpoints that are kept at least
checkpoint_reserve_time_seconds* u32=1800
    How long a checkpoint is kept at least, in seconds
dup_lagging_write_threshold_ms i64=10000
    Age from which a duplicated write counts as lagging, in milliseconds
encrypt_data_at_rest b=false
    Whether data on disk is encrypted
encryption_method s=AES256CTR
    Cipher for data on disk
hadoop_kms_url s=
    Address of the key management service
hot_bucket_variance_threshold* u32=7
    Variance from which a bucket of keys counts as hot
hot_key_variance_threshold* u32=5
    Variance from which a key counts as hot
hotkey_analyse_time_interval_s i32=10
    How often collected keys are analysed, in seconds
hotkey_buckets_num u32=37
    Number of buckets into which keys are sorted
inject_read_error_for_test* i32=0
    Error that every read fails with, for tests; 0 for none
inject_write_error_for_test* i32=0
    Error that every write fails with, for tests; 0 for none
manual_compact_min_interval_seconds i32=0
    Shortest time between two manual compactions of a replica, in seconds
max_seconds_to_detect_hotkey* u32=150
    Longest search for a hot key, in seconds
perf_counter_read_capacity_unit_size u64=4096
    Bytes of a read capacity unit
perf_counter_write_capacity_unit_size u64=4096
    Bytes of a write capacity unit
read_amp_bytes_per_bit i32=0
    Resolution of the measurement of read amplification, 0 for none
rocksdb_abnormal_batch_get_bytes_threshold* u64=10000000
    Bytes from which a batch_get counts as abnormal
rocksdb_abnormal_batch_get_count_threshold* u64=2000
    Keys from which a batch_get counts as abnormal
rocksdb_abnormal_get_size_threshold u64=1000000
    Bytes from which a get counts as abnormal
rocksdb_abnormal_multi_get_iterate_count_threshold u64=1000
    Records from which a multi_get counts as abnormal
rocksdb_abnormal_multi_get_size_threshold u64=10000000
    Bytes from which a multi_get counts as abnormal
rocksdb_block_cache_capacity u64=10737418240
    Size of the block cache of the process, in bytes
rocksdb_block_cache_num_shard_bits i32=-1
    Logarithm of the number of shards of the block cache, -1 for automatic
rocksdb_bloom_filter_bits_per_key d=10.00
    Bits that a bloom filter spends on a key
rocksdb_cache_index_and_filter_blocks b=false
    Whether index and filter blocks live in the block cache
rocksdb_cache_index_and_filter_blocks_with_high_priority b=true
    Whether index and filter blocks stay longer in the block cache
rocksdb_compaction_readahead_size u64=2097152
    Bytes that a compaction reads ahead
rocksdb_compression_type s=lz4
    Compression of table files, by level
rocksdb_disable_bloom_filter b=false
    Whether table files have no bloom filter
rocksdb_disable_table_block_cache b=false
    Whether the block cache is off
rocksdb_enable_write_buffer_manager b=false
    Whether memtables are counted against the block cache
rocksdb_filter_type s=prefix
    What bloom filters contain: common for whole keys, prefix for hash keys
rocksdb_format_version i32=2
    Version of the table file format
rocksdb_index_type s=binary_search
    Kind of the index in table files
rocksdb_iteration_threshold_time_ms u64=30000
    Longest time of one range read, in milliseconds, 0 for no limit
rocksdb_keep_log_file_num u64=32
    Engine log files that are kept
rocksdb_level0_file_num_compaction_trigger i32=4
    Files in level 0 that start a compaction
rocksdb_level0_slowdown_writes_trigger i32=30
    Files in level 0 that slow writes down
rocksdb_level0_stop_writes_trigger i32=60
    Files in level 0 that stop writes
rocksdb_limiter_enable_auto_tune b=false
    Whether the engine adapts the write limit to the load
rocksdb_limiter_max_write_megabytes_per_sec i64=500
    Fastest writing by flushes and compactions, in megabytes a second
rocksdb_log_file_time_to_roll u64=86400
    Age at which an engine log file is closed, in seconds
rocksdb_max_background_compactions i32=12
    Most compactions at a time
rocksdb_max_background_flushes i32=4
    Most flushes at a time
rocksdb_max_bytes_for_level_base u64=671088640
    Size of level 1, in bytes
rocksdb_max_bytes_for_level_multiplier d=10.00
    How many times larger each level is than the one above
rocksdb_max_iteration_count u32=1000
    Most records that one batch of a scan looks at
rocksdb_max_log_file_size u64=8388608
    Size at which an engine log file is closed, in bytes
rocksdb_max_open_files i32=-1
    Most files that the engine keeps open, -1 for no limit
rocksdb_max_write_buffer_number i32=3
    Most memtables of a replica
rocksdb_metadata_block_size u64=4096
    Size of a block of a partitioned index or filter, in bytes
rocksdb_multi_get_max_iteration_count u32=3000
    Most records that one multi_get looks at
rocksdb_multi_get_max_iteration_size u64=31457280
    Most bytes that one multi_get returns
rocksdb_num_levels i32=6
    Levels of the engine's tree
rocksdb_partition_filters b=false
    Whether filters are partitioned
rocksdb_periodic_compaction_seconds u64=0
    Age at which a file is compacted in any case, in seconds, 0 for never
rocksdb_pin_l0_filter_and_index_blocks_in_cache b=false
    Whether index and filter blocks of level 0 stay in the block cache
rocksdb_pin_top_level_index_and_filter b=true
    Whether the top of partitioned indexes and filters stays in the block cache
rocksdb_slow_query_threshold_ns u64=100000000
    Time from which a read counts as slow, in nanoseconds
rocksdb_target_file_size_base u64=67108864
    Size of a table file of level 1, in bytes
rocksdb_target_file_size_multiplier i32=1
    How many times larger table files are than those of the level above
rocksdb_total_size_across_write_buffer u64=0
    Size of all memtables together, in bytes, 0 for no limit
rocksdb_use_direct_io_for_flush_and_compaction b=false
    Whether flushes and compactions bypass the page cache
rocksdb_use_direct_reads b=false
    Whether reads bypass the page cache
rocksdb_verbose_log b=false
    Whether the engine logs in detail
rocksdb_writable_file_max_buffer_size u64=1048576
    Bytes that are collected before a file is written
rocksdb_write_buffer_size u64=67108864
    Size of a memtable, in bytes
rocksdb_write_global_seqno b=false
    Whether ingestion writes the sequence number into the file
server_key s=0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
    Key with which the file keys are encrypted
stats_dump_period_sec u64=600
    How often the engine logs its statistics, in seconds
stats_persist_period_sec u64=600
    How often the engine stores its statistics, in seconds
update_rdb_stat_interval i32=60
    How often metrics of the engine are measured, in seconds

[ranger]
legacy_table_database_mapping_policy_name s=__default__
    Ranger database to which tables without one belong
ranger_service_name s=
    Name of the service in Ranger
ranger_service_url s=
    Address of Ranger

[replication]
abnormal_write_trace_latency_threshold* u64=1000000000
    Time from which a write is traced, in nanoseconds
batch_write_disabled b=false
    Whether every write is replicated alone
checkpoint_disabled b=false
    Whether no checkpoints are made
checkpoint_interval_seconds i32=100
    How often a checkpoint is considered, in seconds
checkpoint_max_interval_hours i32=2
    Longest time without a checkpoint, in hours
cluster_name s=
    Name of the cluster
cold_backup_checkpoint_reserve_minutes i32=10
    How long the checkpoint of a backup is kept, in minutes
cold_backup_root s=
    Folder of backups on the provider
config_sync_disabled b=false
    Whether replica servers do not report to the meta server
config_sync_interval_ms* u32=30000
    The interval milliseconds of replica server to send replica config-sync requests to meta server
data_dirs s=
    Data directories, each with its tag
data_dirs_black_list_file s=/home/work/.pegasus_data_dirs_black_list
    File that lists data directories not to be used
delay_for_fd_timeout_on_start b=false
    Whether a replica server waits until it counts as dead before it starts
deny_client_on_start b=false
    Whether a replica server refuses clients when it starts
disk_min_available_space_ratio* i32=10
    Percentage of free space below which a disk counts as full
disk_stat_disabled b=false
    Whether disks are not measured
disk_stat_interval_seconds i32=600
    How often disks are measured, in seconds
dup_cluster_name s=
    Name of this cluster in duplications, if it differs from the cluster name
dup_ignore_other_cluster_ids b=false
    Whether the origin of duplicated writes is not told apart
dup_load_plog_task* s=LPC_REPLICATION_LONG_LOW
    Task that reads the log for duplication
dup_max_allowed_write_size* u64=1048576
    Largest duplicated write, in bytes, 0 for no limit
dup_no_mutation_load_delay_ms* u64=100
    Pause of duplication when there is nothing to send, in milliseconds
dup_progress_min_report_period_ms u64=300000
    Shortest time between two log lines about duplication progress, in milliseconds
dup_progress_min_update_period_ms u64=5000
    Shortest time between two stored states of duplication progress, in milliseconds
duplicate_log_batch_bytes* u32=4096
    Bytes that are duplicated in one request
duplication_enabled b=true
    Whether tables may be duplicated to other clusters
duplication_sync_period_second u64=10
    How often duplication progress is reported to the meta server, in seconds
empty_write_disabled* b=false
    Whether primaries do not write empty mutations when idle
enable_direct_io* b=false
    Whether files are copied past the page cache
enable_latency_tracer* b=false
    Whether the stages of a request are timed
enable_latency_tracer_report* b=false
    Whether the stages of a request are published as metrics
fd_beacon_interval_seconds i32=3
    How often a replica server sends a beacon, in seconds
fd_check_interval_seconds i32=2
    How often beacons are checked, in seconds
fd_disabled b=false
    Whether failures are not detected
fd_grace_seconds i32=22
    Time without beacon after which the meta server holds a replica server for dead, in seconds
fd_lease_seconds i32=20
    Time without answer after which a replica server stops serving, in seconds
gc_disk_error_replica_interval_seconds* u64=604800
    How long folders of broken replicas are kept, in seconds
gc_disk_garbage_replica_interval_seconds* u64=86400
    How long folders of removed replicas are kept, in seconds
gc_disk_migration_origin_replica_interval_seconds* u64=604800
    How long the origin of a migrated replica is kept, in seconds
gc_disk_migration_tmp_replica_interval_seconds* u64=86400
    How long an unfinished migration is kept, in seconds
gc_interval_ms i32=30000
    How often logs and replicas are cleaned up, in milliseconds
gc_memory_replica_interval_ms i32=600000
    How long a replica that is no longer assigned stays open, in milliseconds
group_check_disabled b=false
    Whether primaries do not check their secondaries
group_check_interval_ms i32=100000
    How often primaries check their secondaries, in milliseconds
hdfs_read_batch_size_bytes* u64=67108864
    Bytes that are read from HDFS at a time
hdfs_read_limit_rate_mb_per_sec* u32=200
    Fastest reading from HDFS, in megabytes a second
hdfs_write_batch_size_bytes* u64=67108864
    Bytes that are written to HDFS at a time
hdfs_write_limit_rate_mb_per_sec* u32=200
    Fastest writing to HDFS, in megabytes a second
ignore_broken_disk b=true
    Whether a replica server starts although a disk is broken
lb_interval_ms i32=10000
    How often partitions are repaired and balanced, in milliseconds
learn_app_max_concurrent_count i32=5
    Most learners that copy files at a time
load_replica_max_wait_time_ms* u64=10
    Longest pause while replicas are loaded at start, in milliseconds
log_private_file_size_mb i32=32
    Size at which a log file is closed, in megabytes
log_private_reserve_max_size_mb i32=1000
    Size of log that is kept for learners, in megabytes
log_private_reserve_max_time_seconds i32=36000
    Age of log that is kept for learners, in seconds
max_allowed_write_size u64=1048576
    Largest write of a client, in bytes, 0 for no limit
max_concurrent_bulk_load_downloading_count i32=5
    Most replicas of a node that download files for a bulk load at a time
max_concurrent_manual_emergency_checkpointing_count* u32=10
    Most checkpoints made on demand at a time
max_concurrent_uploading_file_count u64=10
    Most files that a backup uploads at a time
max_mutation_count_in_prepare_list i32=110
    Size of the window of prepared mutations
max_replicas_on_load_for_each_disk* u64=256
    Most replicas of a disk that are loaded at a time
mem_release_check_interval_ms i32=3600000
    How often free memory is returned to the system, in milliseconds
mem_release_enabled b=true
    Whether free memory is returned to the system
mem_release_max_reserved_mem_percentage i32=10
    Percentage of memory that may stay reserved
mutation_2pc_min_replica_count i32=0
    Members that a replica group must have to take writes; with 0, one is enough
plog_force_flush b=false
    Whether the log is synced to the disk after every write
plog_gc_enabled b=true
    Whether logs are cleaned up
prepare_decree_gap_for_debug_logging i32=10000
    Every how many mutations a trace is logged
prepare_timeout_ms_for_potential_secondaries i32=5000
    Longest time of a prepare on a learner, in milliseconds
prepare_timeout_ms_for_secondaries i32=3000
    Longest time of a prepare on a secondary, in milliseconds
reject_write_when_disk_insufficient* b=true
    Whether writes are refused when the disk is full
replicas_stat_disabled b=false
    Whether replicas are not counted
replicas_stat_interval_ms* u32=30000
    How often replicas are counted, in milliseconds
row_lock_map_capacity* u64=1024
    Rows that can be locked at a time
slog_dir s=
    Folder of the shared log of old versions
staleness_for_commit i32=20
    Uncommitted mutations after which writes are refused
trigger_checkpoint_retry_interval_ms u32=100
    Pause before a checkpoint on demand is tried again, in milliseconds
verbose_client_log_on_start b=false
    Whether requests of clients are logged in detail
verbose_commit_log_on_start b=false
    Whether commits are logged in detail

[security]
enable_acl b=false
    Whether access to tables is controlled
enable_auth b=false
    Whether clients are authenticated
enable_ranger_acl b=false
    Whether access is controlled by Ranger
enable_zookeeper_kerberos b=false
    Whether ZooKeeper is reached with Kerberos
encryption_cluster_key_name s=pegasus_cluster_key
    Name of the key of the cluster
krb5_config s=
    Kerberos configuration file
krb5_keytab s=
    Kerberos key table
krb5_principal s=
    Kerberos principal of this process
mandatory_auth* b=false
    Whether clients that do not authenticate are refused
meta_acl_rpc_allow_list s=
    Requests that everyone may send to the meta server
sasl_plugin_path s=/usr/lib/sasl2
    Folder of the SASL plugins
service_fqdn s=
    Host name of the service in Kerberos
service_name s=
    Name of the service in Kerberos
super_users s=
    Users who may do everything
update_ranger_policy_interval_sec u32=5
    How often policies are fetched from Ranger, in seconds
zookeeper_kerberos_service_name s=
    Kerberos service name of ZooKeeper
zookeeper_sasl_service_fqdn s=
    Kerberos host name of ZooKeeper

[task..default]
collect_call_count b=true
    Whether tasks count who called them
is_profile b=false
    Whether tasks are measured
is_trace b=false
    Whether tasks are logged

[threadpool.THREAD_POOL_DEFAULT]
worker_count i32=0
    Number of threads of the pool

[tools.screen_logger]
stderr_start_level_on_stdout s=LOG_LEVEL_WARNING
    The least important level that goes to standard error instead of standard output

[tools.simple_logger]
base_name s=pegasus
    What the names of log files begin with
fast_flush b=false
    Whether every log line is flushed
max_log_file_bytes u64=67108864
    Size at which a log file is closed, in bytes
max_number_of_log_files_on_disk u64=20
    Log files that are kept
short_header b=false
    Whether log lines have a short header
stderr_start_level s=LOG_LEVEL_WARNING
    The least important level that also goes to standard error

[tools.simulator]
max_message_delay_microseconds u32=100000
    Longest delay of a simulated message, in microseconds
min_message_delay_microseconds u32=1
    Shortest delay of a simulated message, in microseconds
random_seed i32=0
    Seed of the simulation, 0 for a random one

[zookeeper]
hosts_list s=
    Addresses of ZooKeeper
logfile s=zoo.log
    Log file of the ZooKeeper client
sasl_mechanisms_type s=
    SASL mechanism for ZooKeeper
sasl_password_encryption_scheme s=
    How the ZooKeeper password is encrypted
sasl_password_file s=
    File with the ZooKeeper password
sasl_realm s=
    SASL realm for ZooKeeper
sasl_service_fqdn s=
    SASL host name of ZooKeeper
sasl_service_name s=zookeeper
    SASL service name of ZooKeeper
sasl_user_name s=
    SASL user for ZooKeeper
timeout_ms i32=30000
    Timeout of the ZooKeeper session, in milliseconds
zoo_log_level s=ZOO_LOG_LEVEL_INFO
    The least important level that the ZooKeeper client logs
"""
