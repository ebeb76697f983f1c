# Two boots of one Debian: in the first the service is enabled, in the second it is there. Says what holds as test programs do.
passed=0 failed=0
exec >/dev/vport0p1 2>&1
open="data=yes secret=yes port7=yes port9=yes"
confined="data=yes secret=no port7=no port9=yes"

# Whether that comes true within two minutes.
soon() {
    tries=0
    until eval "$1" >/run/check.out 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 240 ] || return 1
        sleep 0.5
    done
}
holds() {
    if soon "$2"; then
        passed=$((passed + 1))
        echo "test $1 ... ok"
    else
        failed=$((failed + 1))
        echo "test $1 ... FAILED: $(tail -n 1 /run/demo.log)"
        cat /run/check.out
        systemctl --no-pager --full status skillsandbox.service
    fi
}
# Of lines that were written from now on.
now() { : >/run/demo.log; sleep 1; soon '[ -s /run/demo.log ]'; }
says() { [ "$(tail -n 1 /run/demo.log)" = "$1" ]; }

if [ ! -e /srv/booted ]; then
    holds "before_a_policy_the_unit_may_do_everything" 'now; says "$open"'
    systemctl enable --quiet --now skillsandbox.service
    holds "enable_now_confines_it" 'says "$confined"'
    touch /srv/booted
else
    holds "after_a_reboot_it_is_confined" 'says "$confined"'
    holds "the_service_says_so" 'systemctl show -p StatusText skillsandbox.service | grep "1 cgroups have their policy"'
    systemctl kill --signal=KILL skillsandbox.service
    holds "when_the_daemon_is_killed_it_stays_confined" 'now; says "$confined"'
    holds "and_the_daemon_is_started_again" 'skillsandbox ps | grep "^demo  *recorded"'
    holds "the_record_has_what_was_denied" 'skillsandbox audit query --verdict deny --kind open | grep /srv/secret'
    holds "it_can_be_upgraded" 'dpkg -i /new.deb'
    holds "an_upgrade_leaves_it_confined" 'now; says "$confined"'
    holds "and_the_daemon_goes_on" 'skillsandbox ps | grep "^demo  *recorded"'
    rm /etc/skillsandbox/policies/demo.yaml
    holds "a_policy_that_is_removed_is_taken_away" 'now; says "$open"'
    cp /opt/demo.yaml /etc/skillsandbox/policies/
    holds "one_that_comes_takes_effect" 'says "$confined"'
    systemctl stop skillsandbox.service
    holds "the_daemon_has_sealed_what_was_over" 'skillsandbox audit verify | grep "and [1-9][0-9]* segments"'
    holds "the_record_is_whole" 'skillsandbox audit verify'
    holds "it_can_be_removed" 'dpkg -r skillsandbox'
    holds "with_the_package_its_policies_go" 'now; says "$open"'
fi
if [ $failed = 0 ]; then result=ok; else result=FAILED; fi
echo "test result: $result. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out"
sync
echo $failed >/dev/vport0p3
systemctl --force --force poweroff
