#!/bin/sh
# Ceph's S3 server on loopback, in memory: radosgw.sh FOLDER PORT, with S3_ACCESS_KEY and S3_SECRET_KEY set.
# One monitor, one store, one gateway; each leaves a .pid file in FOLDER. As root or not. Ready in about 13 s.
set -eu
folder=$(realpath -m "$1")
port=$2
mkdir -p "$folder/mon" "$folder/osd" "$folder/run" "$folder/rgw"
keyring="$folder/keyring"
mon_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$folder/ceph.conf" <<END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon_host = v2:127.0.0.1:$mon_port
public_network = 127.0.0.0/8
public_addr = 127.0.0.1
ms_bind_msgr1 = false
run_dir = $folder/run
admin_socket = $folder/run/\$name.asok
pid_file =
log_file = $folder/\$name.log
mon_cluster_log_file = $folder/cluster.log
crash_dir = $folder
mon_data = $folder/mon
osd_data = $folder/osd
rgw_data = $folder/rgw
keyring = $keyring
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 1000
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
osd_class_load_list = *
osd_class_default_list = *
rgw_frontends = beast endpoint=127.0.0.1:$port
rgw_thread_pool_size = 32
[client.rgw]
END

ceph_() { program=$1; shift; "$program" -c "$folder/ceph.conf" "$@"; }
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || { echo "failed: $*"; exit 1; }
        sleep 0.2
    done
}
background() {  # NAME PROGRAM ARGUMENTS
    name=$1; program=$2; shift 2
    setsid "$program" -c "$folder/ceph.conf" "$@" -f >"$folder/$name.out" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

ceph-authtool --create-keyring "$keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool "$keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' >/dev/null
ceph-authtool "$keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' >/dev/null
ceph-authtool "$keyring" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx' >/dev/null
monmaptool --create --addv a "[v2:127.0.0.1:$mon_port]" --clobber "$folder/monmap" >/dev/null
ceph_ ceph-mon -i a --mkfs --monmap "$folder/monmap" --keyring "$keyring"
background mon ceph-mon -i a
until_ok timeout 5 ceph -c "$folder/ceph.conf" -s
store=$(cat /proc/sys/kernel/random/uuid)
ceph_ ceph osd new "$store" >/dev/null
ceph_ ceph-osd -i 0 --mkfs --osd-uuid "$store" >/dev/null 2>&1
background osd ceph-osd -i 0
until_ok sh -c "ceph -c '$folder/ceph.conf' osd stat | grep -q '1 up'"
ceph_ radosgw-admin -n client.rgw user create --uid=tests --display-name=tests \
    --access-key="$S3_ACCESS_KEY" --secret-key="$S3_SECRET_KEY" >"$folder/user.out" 2>&1
background rgw radosgw -n client.rgw
until_ok python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)"
