# Completions of slurm-tokenctl for fish, written from its -h: make completions.
# Is the command line at this command of the program's?
function __slurm_tokenctl_at
    set -l at ''
    set -l value 0
    set -g __slurm_tokenctl_at_rest
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        if test $value = 1
            set value 0
            continue
        end
        switch "$at:$words[$i]"
            case ':key'
                set at 'key'
            case ':jwks'
                set at 'jwks'
            case ':token'
                set at 'token'
            case ':policy'
                set at 'policy'
            case ':status'
                set at 'status'
            case ':sessions'
                set at 'sessions'
            case ':block'
                set at 'block'
            case ':unblock'
                set at 'unblock'
            case ':metrics'
                set at 'metrics'
            case ':help'
                set at 'help'
            case ':--slurm-user'
                set value 1
            case 'key:generate'
                set at 'key generate'
            case 'key:kid'
                set at 'key kid'
            case 'key:public'
                set at 'key public'
            case 'key:jwk'
                set at 'key jwk'
            case 'key:help'
                set at 'key help'
            case 'key:--slurm-user'
                set value 1
            case 'key generate:--alg' 'key generate:--slurm-user' 'key generate:--bits' 'key generate:--out'
                set value 1
            case 'key kid:--slurm-user'
                set value 1
            case 'key public:--slurm-user'
                set value 1
            case 'key jwk:--kid' 'key jwk:--slurm-user' 'key jwk:--out'
                set value 1
            case 'jwks:build'
                set at 'jwks build'
            case 'jwks:merge'
                set at 'jwks merge'
            case 'jwks:lint'
                set at 'jwks lint'
            case 'jwks:help'
                set at 'jwks help'
            case 'jwks:--slurm-user'
                set value 1
            case 'jwks build:--config' 'jwks build:--slurm-user' 'jwks build:--kid' 'jwks build:--out'
                set value 1
            case 'jwks merge:--out' 'jwks merge:--slurm-user'
                set value 1
            case 'jwks lint:--slurm-user'
                set value 1
            case 'token:sign'
                set at 'token sign'
            case 'token:verify'
                set at 'token verify'
            case 'token:inspect'
                set at 'token inspect'
            case 'token:help'
                set at 'token help'
            case 'token:--slurm-user'
                set value 1
            case 'token sign:--slurm-user' 'token sign:--sun' 'token sign:--key' 'token sign:--alg' 'token sign:--kid' 'token sign:--lifespan' 'token sign:--config'
                set value 1
            case 'token verify:--key' 'token verify:--slurm-user' 'token verify:--jwks' 'token verify:--alg' 'token verify:--kid' 'token verify:--leeway' 'token verify:--config'
                set value 1
            case 'token inspect:--slurm-user'
                set value 1
            case 'policy:test'
                set at 'policy test'
            case 'policy:help'
                set at 'policy help'
            case 'policy:--slurm-user'
                set value 1
            case 'policy test:--for' 'policy test:--slurm-user' 'policy test:--lifespan' 'policy test:--config'
                set value 1
            case 'status:--slurm-user' 'status:--socket' 'status:--config'
                set value 1
            case 'sessions:--slurm-user' 'sessions:--socket' 'sessions:--config'
                set value 1
            case 'block:--for' 'block:--slurm-user' 'block:--reason' 'block:--socket' 'block:--config'
                set value 1
            case 'unblock:--slurm-user' 'unblock:--socket' 'unblock:--config'
                set value 1
            case 'metrics:--out' 'metrics:--slurm-user' 'metrics:--socket' 'metrics:--config'
                set value 1
        end
    end
    test "$at" = "$argv[1]"
end
complete -c slurm-tokenctl -f
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -s V -l version -d 'Print version'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a key -d 'Make a key, or show what is public of one'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a jwks -d 'Make, join and check sets of public keys for slurmctld'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a token -d 'Sign, check and look into single tokens, without the daemon'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a policy -d 'Try the daemon\'s policy'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a status -d 'Say how the daemon is'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a sessions -d 'Say who holds tokens, from where, and who is blocked'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a block -d 'Give a user no more tokens on this node, from now on'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a unblock -d 'Lift a user\'s block'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a metrics -d 'Print what the daemon has counted'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at ""' -a help -d 'Print this message or the help of the given subcommand(s)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -a generate -d 'Make a new key in a file of its own'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -a kid -d 'Print a key\'s RFC 7638 thumbprint'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -a public -d 'Print the public half of an RSA key in PEM'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -a jwk -d 'Print the public half of an RSA key as a JWK'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key"' -a help -d 'Print this message or the help of the given subcommand(s)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key generate"' -l alg -x -a "RS256 HS256" -d 'RS256: a key pair for this node alone'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key generate"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key generate"' -l bits -x -d 'RS256: 2048 (default), 3072 or 4096'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key generate"' -l out -r -F -d 'The file to make, readable by its owner only'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key generate"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key kid"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key kid"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key kid"' -F
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key public"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key public"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key public"' -F
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key jwk"' -l kid -x -d 'The key\'s name, where signing.kid sets it'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key jwk"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key jwk"' -l private -d 'The private key, for a program that reads no PEM'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key jwk"' -l out -r -F -d 'With --private: the file to make'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key jwk"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key jwk"' -F
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "key help"' -x -a "generate\t'Make a new key in a file of its own' kid\t'Print a key\'s RFC 7638 thumbprint' public\t'Print the public half of an RSA key in PEM' jwk\t'Print the public half of an RSA key as a JWK'"
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks"' -a build -d 'Make a set of the public halves of keys'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks"' -a merge -d 'Join sets, such as those of several nodes'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks"' -a lint -d 'Say what each release of Slurm does with a set, entry by entry'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks"' -a help -d 'Print this message or the help of the given subcommand(s)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -l config -r -F -d 'Take the key that this configuration signs with, under the kid of its tokens'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -l kid -x -d 'The name of the one key, where signing.kid sets it'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -l kid-from-name -d 'Name each key after its file: <kid>.pem'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -l out -r -F -d 'Write to this file, by rename, instead of standard output'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -l drop-others -d 'Let keys go that FILE holds and the sources don\'t'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks build"' -F
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks merge"' -l out -r -F -d 'Write to this file, by rename, instead of standard output'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks merge"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks merge"' -l drop-others -d 'Let keys go that FILE holds and the sources don\'t'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks merge"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks merge"' -F
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks lint"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks lint"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks lint"' -F
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "jwks help"' -x -a "build\t'Make a set of the public halves of keys' merge\t'Join sets, such as those of several nodes' lint\t'Say what each release of Slurm does with a set, entry by entry'"
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token"' -a sign -d 'Sign a token for any user, past the daemon'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token"' -a verify -d 'Say whether a token is genuine and valid'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token"' -a inspect -d 'Show what is in a token, and what Slurm would say to it, without any key'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token"' -a help -d 'Print this message or the help of the given subcommand(s)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l sun -x -a '(__fish_complete_users)' -d 'The user that Slurm takes the token\'s bearer for'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l key -r -F -d 'The key that signs'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l alg -x -a "RS256 HS256" -d 'What --key is for: never guessed from its bytes'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l kid -x -d 'The key\'s name in the token'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l lifespan -x -a "max 10m 30m 1h 12h" -d 'How long the token lives: 600, 30m, 12h, 7d, max'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l config -r -F -d 'The daemon\'s configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -l json -d 'Print JSON: token, user, expires_at, kid and jti'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token sign"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l key -r -F -d 'A key in PEM or as a JWK, public or private, whatever kid the token names'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l jwks -r -F -d 'Sets of public keys, found by the token\'s kid'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l alg -x -a "RS256 HS256" -d 'What --key is for: never guessed from its bytes'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l kid -x -d 'The kid that the token has to name for --key'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l leeway -x -d 'By how many seconds this machine\'s clock and the issuer\'s may differ'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l config -r -F -d 'The configuration whose policy says whom no token may name'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -l json -d 'Print JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token verify"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token inspect"' -l json -d 'Print JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token inspect"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token inspect"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "token help"' -x -a "sign\t'Sign a token for any user, past the daemon' verify\t'Say whether a token is genuine and valid' inspect\t'Show what is in a token, and what Slurm would say to it, without any key'"
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy"' -a test -d 'Say what a user would get, and by which rule'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy"' -a help -d 'Print this message or the help of the given subcommand(s)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -l for -x -a '(__fish_complete_users)' -d 'For whom the user would ask, as a service does'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -l lifespan -x -a "max 10m 30m 1h 12h" -d 'For how long: 30m, 12h, 1-00:00:00, seconds, or max'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -l config -r -F -d 'The daemon\'s configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -l json -d 'Print JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy test"' -x -a '(__fish_complete_users)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "policy help"' -x -a "test\t'Say what a user would get, and by which rule'"
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "status"' -l json -d 'As JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "status"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "status"' -l socket -r -F -d 'Ask at this socket'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "status"' -l config -r -F -d 'Ask the daemon of this configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "status"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "sessions"' -l json -d 'As JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "sessions"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "sessions"' -l socket -r -F -d 'Ask at this socket'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "sessions"' -l config -r -F -d 'Ask the daemon of this configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "sessions"' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "sessions"' -x -a '(__fish_complete_users)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -l for -x -a "30s 1m 10m" -d 'For how long, such as 2h or 7d'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -l reason -x -d 'Why, for administrators and the log'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -l json -d 'As JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -l socket -r -F -d 'Ask at this socket'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -l config -r -F -d 'Ask the daemon of this configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "block"' -x -a '(__fish_complete_users)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "unblock"' -l json -d 'As JSON'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "unblock"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "unblock"' -l socket -r -F -d 'Ask at this socket'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "unblock"' -l config -r -F -d 'Ask the daemon of this configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "unblock"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "unblock"' -x -a '(__fish_complete_users)'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "metrics"' -l out -r -F -d 'Write them to this file, by rename, in the older text format, which the...'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "metrics"' -l slurm-user -x -a '(__fish_complete_users)' -d 'The account that slurmctld runs as'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "metrics"' -l socket -r -F -d 'Ask at this socket'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "metrics"' -l config -r -F -d 'Ask the daemon of this configuration'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "metrics"' -s h -l help -d 'Print help'
complete -c slurm-tokenctl -n '__slurm_tokenctl_at "help"' -x -a "key\t'Make a key, or show what is public of one' jwks\t'Make, join and check sets of public keys for slurmctld' token\t'Sign, check and look into single tokens, without the daemon' policy\t'Try the daemon\'s policy' status\t'Say how the daemon is' sessions\t'Say who holds tokens, from where, and who is blocked' block\t'Give a user no more tokens on this node, from now on' unblock\t'Lift a user\'s block' metrics\t'Print what the daemon has counted'"
