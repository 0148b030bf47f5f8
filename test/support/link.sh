# link.sh - two hosts on one machine: network namespaces kdas0 and kdas1, joined by a link of a given rate and loss, and what
# mpirun of Open MPI needs to start a rank in each. Only root can make them. Sourced; needs $scratch, a folder.
link_net=10.77.0

link_down()
{
    local i
    for i in 0 1; do
        ip netns pids "kdas$i" 2>/dev/null | xargs -r kill -KILL # a daemon that nothing reaches any more
        ip netns del "kdas$i" 2>/dev/null
    done
}

link_up() # RATE LOSS: such as 1gbit 0.01
{
    local i
    link_down
    for i in 0 1; do ip netns add "kdas$i" && ip -n "kdas$i" link set lo up || return 1; done
    ip link add kdasv0 netns kdas0 type veth peer name kdasv1 netns kdas1 || return 1
    for i in 0 1; do
        ip -n "kdas$i" addr add "$link_net.1$i/24" dev "kdasv$i" && ip -n "kdas$i" link set "kdasv$i" up || return 1
        tc -n "kdas$i" qdisc add dev "kdasv$i" root tbf rate "$1" burst 1mb latency 50ms || return 1
        [ "$2" = 0 ] || ip netns exec "kdas$i" iptables-legacy -A INPUT -i "kdasv$i" -m statistic --mode random \
            --probability "$2" -j DROP || return 1
    done
    # shellcheck disable=SC2016 # the agent's own words
    printf '#!/bin/sh\nhost=$1\nshift\nexec ip netns exec "$host" sh -c "$*"\n' >"$scratch/agent" && chmod +x "$scratch/agent" || return 1
    across=(ip netns exec kdas0 mpirun.openmpi --oversubscribe --bind-to none --mca plm_rsh_agent "$scratch/agent"
        --mca plm_rsh_no_tree_spawn 1 --mca oob_tcp_if_include "$link_net.0/24" --mca btl tcp,self
        --mca btl_tcp_if_include "$link_net.0/24" --host "kdas0:1,kdas1:1" -n 2)
}

link_cut() { ip -n kdas1 link set kdasv1 down; }
